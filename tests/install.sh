#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make install puts the programs, their manuals, completions and the unit of systemd below DESTDIR, all
# in order; make uninstall leaves no file.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need make
setup_directory
[ -f "$top_builddir/Makefile" ] || skip "$top_builddir is not a build directory"

# target NAME: of make. No compiler: all is built, and other tests use the program at this time.
target () {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$top_builddir" CC=false AR=false RANLIB=false \
		DESTDIR="$tmp/root" prefix=/opt/fleece "$1" >"$base/log" 2>&1 </dev/null ||
		fail "make $1: $(cat "$base/log")"
}

target install
[ "$(cd root && find . ! -type d | sort)" = './opt/fleece/bin/fleecectl
./opt/fleece/bin/fleecefs
./opt/fleece/lib/systemd/system/fleecefs@.service
./opt/fleece/sbin/umount.fuse.fleecefs
./opt/fleece/share/bash-completion/completions/fleecectl
./opt/fleece/share/bash-completion/completions/fleecefs
./opt/fleece/share/man/man7/fleecefs-backup.7
./opt/fleece/share/man/man8/fleecectl.8
./opt/fleece/share/man/man8/fleecefs.8' ] || fail "installs: $(find root)"

program=root/opt/fleece/bin/fleecefs
[ "$("$program" --version)" = "$("$FLEECEFS" --version)" ] || fail 'the installed program is another'
expect_error 2 'no image and no mountpoint' "$program"
expect_error 2 'no command given' root/opt/fleece/bin/fleecectl
for name in fleecefs fleecectl; do
	program=root/opt/fleece/bin/$name
	[ "$(stat -c %a "$program")" = 755 ] || fail "the program has mode $(stat -c %a "$program")"
	page=root/opt/fleece/share/man/man8/$name.8
	same "$page" "$top_srcdir/man/$name.8"
	[ "$(stat -c %a "$page")" = 644 ] || fail "the manual has mode $(stat -c %a "$page")"
done

unit=root/opt/fleece/lib/systemd/system/fleecefs@.service
grep -q '^ExecStart=/[^@]*/bin/fleecefs -f ' "$unit" || fail "the unit starts: $(grep Exec "$unit")"
[ "$(stat -c %a "$unit")" = 644 ] || fail "the unit has mode $(stat -c %a "$unit")"

target uninstall
[ -z "$(find root ! -type d)" ] || fail "uninstall leaves: $(find root ! -type d)"

# The manuals: no warning at any width, a line for whatis(1), each option of --help.
need man groff
for page in fleecectl.8 fleecefs.8 fleecefs-backup.7; do
	for width in 60 80 120; do
		MANWIDTH=$width man --warnings=w -l "$top_srcdir/man/$page" \
			>"${page%.*}.text" 2>warnings || fail "man: status $?: $(cat warnings)"
		[ ! -s warnings ] || fail "the manual, $width columns wide: $(cat warnings)"
	done
done
if command -v mandoc >/dev/null; then
	# Lines may be as long as in all other sources.
	mandoc -T lint "$top_srcdir"/man/*.[78] | grep -v ': input text line longer than 80 bytes' &&
		fail 'mandoc -T lint finds the above'
fi
grep -q 'fleecefs - snapshots of disk images in use' fleecefs.text || fail 'no NAME line'
grep -q 'fleecectl - show snapshots' fleecectl.text || fail 'no NAME line'
"$FLEECEFS" --help | grep -oE '^ {4}[a-z_-]+=?' | while read -r option; do
	grep -qF -- "$option" fleecefs.text || fail "the manual lacks $option"
done || exit 1
"$FLEECECTL" --help | grep -oE -- '--[a-z]+' | while read -r option; do
	grep -qF -- "$option" fleecectl.text || fail "the manual lacks $option"
done || exit 1
