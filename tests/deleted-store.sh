#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A store that is deleted, moved or replaced while it is served, whole or in part: that is said at
# once, by all that say how snapshots are, and in the log; what is open can be read to the end; and
# no start takes an empty store for the one that is gone, unless it is told to.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr setfattr python3
in_memory
setup
mkdir mnt parent
noise $((1 << 20)) >img
setfattr -n user.test -v x img 2>/dev/null || skip 'no extended attributes'

# A store with snapshots a and b, in use; its daemon logs to the file log.
begin () {
	umask 022
	rm -rf parent/* img.fleece
	FLEECEFS_TEST=$base "$FLEECEFS" -f -o store=parent/store,new-store img mnt 2>log &
	daemon=$!
	await mountpoint -q mnt || fail "does not mount: $(cat log)"
	cp mnt/.live/img truth
	mkdir mnt/a || fail 'mkdir a'
	patch mnt/.live/img 0 8192 direct
	mkdir mnt/b || fail 'mkdir b'
	patch mnt/.live/img 8192 8192 direct
}

end () {
	umount_any mnt || fail 'umount'
	wait "$daemon"
}

state () {
	getfattr -n user.fleecefs.state --only-values "mnt/$1" 2>/dev/null
}

json () {
	python3 -c 'import json; s = json.load(open("mnt/.fleecefs/status.json")); print('"$1"')'
}

# expect STATE_OF_A STATE_OF_B REGEX: how they are, by all ways, and why.
expect () {
	local name want

	for name in a b; do
		want=$([ $name = a ] && echo "$1" || echo "$2")
		[[ $(state $name) = "$want"* ]] || fail "$name is '$(state $name)', not $want"
		[[ $(state $name/img) = "$want"* ]] || fail "$name/img is '$(state $name/img)'"
		grep -q " $name  *$want" mnt/.fleecefs/status || fail "$(cat mnt/.fleecefs/status)"
		[ "$(json '[x["state"] for x in s["snapshots"] if x["name"] == "'$name'"][0]')" = "$want" ] ||
			fail "$(cat mnt/.fleecefs/status.json)"
		"$FLEECECTL" list mnt | grep -q "^$name .* $want" || fail "$("$FLEECECTL" list mnt)"
	done
	[[ $(json 's["store"]["loss"]') =~ $3 ]] || fail "the reason is '$(json 's["store"]["loss"]')'"
	grep -qE "^warning: .*$3" mnt/.fleecefs/status || fail "$(cat mnt/.fleecefs/status)"
	"$FLEECECTL" status mnt | grep -qE "$3" || fail "$("$FLEECECTL" status mnt)"
	grep -qx 'fleecefs_store_lost 1' mnt/.fleecefs/metrics || fail 'the metrics do not say it'
	await grep -qE "$3; copy what can still be read" log || fail "the log: $(cat log)"
	frozen mnt/a/img truth
}

# refuses STORE: no start with it, and nothing is made.
refuses () {
	expect_error 1 "left open with another store than '.*', of the uuid .*new-store" \
		"$FLEECEFS" -o "store=$1" img mnt
}

begin
expect_ok=$(state a)$(state b)
[ "$expect_ok" = okok ] || fail "before: $expect_ok"
[ "$(json 's["store"]["loss"]')" = None ] || fail 'a loss of nothing'
rm -r parent/store
expect lost lost 'store .* was deleted'
denied 'Input/output error' mkdir mnt/c
grep -q "no snapshot 'c': the store '.*' was deleted" log || fail "the log: $(cat log)"
end && fail 'it ends as if all were right'
refuses parent/store
[ ! -e parent/store ] || fail 'a refused start makes a store'
mkdir parent/store
refuses parent/store
mount_fleecefs -o store=parent/store,new-store img mnt
[ -z "$(ls mnt)" ] || fail "a new store has $(ls mnt)"
unmount mnt
mount_fleecefs -o store=parent/store img mnt
unmount mnt

# One level; what is newer does not need it.
for gone in 000001 000001/snapshot.ini 000001/img.qcow2; do
	begin
	rm -r "parent/store/snapshots/$gone"
	expect lost ok "'.*/000001/.*' was deleted"
	end
done
begin
rm -r parent/store/snapshots/000002
expect lost lost "'.*/000002/.*' was deleted"
end

# The manifest is written again at the end.
begin
rm parent/store/fleecefs.ini
expect lost lost "fleecefs.ini' was deleted"
end || fail "it ends with an error: $(cat log)"
mount_fleecefs -o store=parent/store img mnt
frozen mnt/a/img truth
unmount mnt

# Renamed, with or without another in its place.
for other in '' yes; do
	begin
	mv parent/store parent/moved
	[ -z "$other" ] || mkdir parent/store
	expect lost lost "is not at '.*' any more"
	mkdir mnt/c || fail 'mkdir in a store that was moved'
	end || fail "it ends with an error: $(cat log)"
	refuses parent/store
	mount_fleecefs -o store=parent/moved img mnt
	[ "$(state a)" = ok ] || fail "found again, a is '$(state a)'"
	frozen mnt/a/img truth
	unmount mnt
done

# Moved back it is no loss.
begin
mv parent/store parent/moved
expect lost lost "is not at '.*' any more"
mv parent/moved parent/store
[ "$(state a)" = ok ] || fail "moved back, a is '$(state a)'"
end || fail "it ends with an error: $(cat log)"

# Its file system is not there any more.
rm -r parent/store
if [ "$(id -u)" = 0 ] && mount -t tmpfs fleecefs-test parent 2>/dev/null; then
	begin
	umount -l parent
	mkdir parent/store
	expect lost lost "is not at '.*' any more"
	end || fail "it ends with an error: $(cat log)"
	refuses parent/store
fi
