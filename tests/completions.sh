#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bash completes of fleecefs and fleecectl, and that it knows every option that --help does.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

setup_directory

# completes LINE: sets COMPREPLY as bash would have it for the line, at its end. Blanks and = divide
# words, whatever is in quotes.
completes () {
	local function word

	COMP_LINE=$1
	COMP_POINT=${#1}
	read -r -a COMP_WORDS <<<"${1//=/ = }"
	[[ $1 != *' ' ]] || COMP_WORDS+=('')
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	function=$(complete -p "${COMP_WORDS[0]}") || fail "no completion of ${COMP_WORDS[0]}"
	function=${function#*-F }
	word=${COMP_WORDS[COMP_CWORD]}
	"${function% *}" "${COMP_WORDS[0]}" "${word#=}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>errors
	grep -v compopt errors && fail "completing '$1'"
	return 0
}

# gives LINE WORD...: the completions, in any order.
gives () {
	completes "$1"
	[ "$(printf '%s\n' "${COMPREPLY[@]}" | sort)" = "$(printf '%s\n' "${@:2}" | sort)" ] ||
		fail "'$1' gives: ${COMPREPLY[*]}"
}

# shellcheck source=fleecefs/completions/fleecectl
. "$top_srcdir/fleecefs/completions/fleecectl"
# shellcheck source=fleecefs/completions/fleecefs
. "$top_srcdir/fleecefs/completions/fleecefs"

mkdir directory
touch disk.img
gives 'fleecectl ' list status umount
gives 'fleecectl s' status
gives 'fleecectl list --' --help --json --version
gives 'fleecectl status --w' --watch
gives 'fleecectl umount --' --dead --force --help --lazy --timeout --version
gives 'fleecectl list dir' directory
gives 'fleecefs d' directory disk.img
gives 'fleecefs -o gran' granule=
gives 'fleecefs -o granule=6' 64k
gives 'fleecefs -o ro,gran' ro,granule=
gives 'fleecefs -o copy=off' offload
gives 'fleecefs -o ro,durability=p' process power
gives 'fleecefs -o durability=' process power
gives 'fleecefs -o store=dir' directory
gives 'fleecefs -o store=directory,gran' directory,granule=
gives 'fleecefs -o ro disk' disk.img
gives 'fleecefs root=disk' disk.img
gives 'fleecefs --h' --help

completes 'fleecefs -o '
"$FLEECEFS" --help | grep -oE '^ {4}[a-z_-]+=?' | while read -r option; do
	printf '%s\n' "${COMPREPLY[@]}" | grep -qxF -- "$option" || fail "-o $option is not completed"
done || exit 1
completes 'fleecectl status --'
all=("${COMPREPLY[@]}")
completes 'fleecectl umount --'
all+=("${COMPREPLY[@]}")
"$FLEECECTL" --help | grep -oE -- '--[a-z]+' | while read -r option; do
	printf '%s\n' "${all[@]}" | grep -qxF -- "$option" || fail "$option is not completed"
done || exit 1

# Names with blanks and quotes, at a terminal. Its bash says what is in the line by a key.
command -v python3 >/dev/null || exit 0
mkdir 'a b'
touch "c d'e.img"
timeout "$PATIENCE" python3 - "$BASH" "$top_srcdir/fleecefs/completions/" <<'PYTHON' || fail 'at a terminal'
import os, pty, sys

shell, directory = sys.argv[1:]
os.mkfifo("lines")
pid, master = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", INPUTRC="/dev/null", HISTFILE="")
    os.execv(shell, [shell, "--norc", "--noprofile", "-i"])
os.write(master, b". %sfleecefs; . %sfleecectl\n" % (directory.encode(), directory.encode()))
os.write(master, b"bind -x '\"\\C-xl\": printf \"%s\\n\" \"$READLINE_LINE\" >lines'\n")

def gives(line, expected):
    os.write(master, b"\x15" + line.encode() + b"\t\x18l")
    with open("lines") as lines:
        seen = lines.read()
    assert seen == expected + "\n", (line, seen)

gives("fleecefs a\\ ", "fleecefs a\\ b/")
gives("fleecefs c", "fleecefs c\\ d\\'e.img ")
gives('fleecefs "c ', 'fleecefs "c d\'e.img" ')
gives("fleecefs root=c\\ d", "fleecefs root=c\\ d\\'e.img ")
gives("fleecefs -o ro,store=a", "fleecefs -o ro,store=a\\ b/")
gives("fleecefs -o store=a\\ b,gran", "fleecefs -o store=a\\ b,granule=")
gives("fleecectl list a\\ ", "fleecectl list a\\ b/")
gives('fleecectl list "a ', 'fleecectl list "a b"/')
os.kill(pid, 9)
PYTHON
exit 0
