#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bash completes of fleecefs and fleecectl, and that it knows every option that --help does.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

setup_directory

# completes LINE: sets COMPREPLY as bash would have it for the line, at its end.
completes () {
	local function

	COMP_LINE=$1
	COMP_POINT=${#1}
	read -r -a COMP_WORDS <<<"$1"
	[[ $1 != *' ' ]] || COMP_WORDS+=('')
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	function=$(complete -p "${COMP_WORDS[0]}") || fail "no completion of ${COMP_WORDS[0]}"
	function=${function#*-F }
	"${function% *}" 2>errors
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
gives 'fleecectl ' list status
gives 'fleecectl s' status
gives 'fleecectl list --' --help --json --version
gives 'fleecectl status --w' --watch
gives 'fleecectl list dir' directory
gives 'fleecefs d' directory disk.img
gives 'fleecefs -o gran' granule=
gives 'fleecefs -o granule=6' 64k
gives 'fleecefs -o ro,gran' ro,granule=
gives 'fleecefs -o copy=off' offload
gives 'fleecefs -o ro,durability=p' process power
gives 'fleecefs -o store=dir' directory
gives 'fleecefs -o ro disk' disk.img
gives 'fleecefs --h' --help

completes 'fleecefs -o '
"$FLEECEFS" --help | grep -oE '^ +[a-z-]+=' | while read -r option; do
	printf '%s\n' "${COMPREPLY[@]}" | grep -qxF -- "$option" || fail "-o $option is not completed"
done || exit 1
completes 'fleecectl status --'
"$FLEECECTL" --help | grep -oE -- '--[a-z]+' | while read -r option; do
	printf '%s\n' "${COMPREPLY[@]}" | grep -qxF -- "$option" || fail "$option is not completed"
done || exit 1
