#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What fleecefs-backup(7) tells people to type works: each script and line of it is taken from its
# source and run, with other paths, against a real mount and the real rsync, borg and restic. Of
# libvirt there is only a double of virsh, which tells in what order it was called and can fail and
# hang; and no cron and no systemd, only the commands that they would run.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
page=$top_srcdir/man/fleecefs-backup.7
need flock rsync timeout
in_memory
setup

# recipe NAME: prints it, for the paths of this test; $base/plain has it as it stands there.
recipe () {
	sed -n "/^\\.\\\\\" begin $1\$/,/^\\.\\\\\" end $1\$/p" "$page" | grep -v '^\.\\"' >"$base/raw"
	[ -s "$base/raw" ] || fail "there is no recipe $1" >&2
	# What groff would print as something else.
	if sed 's/\\\((aq\|(ha\|[e-]\)//g' "$base/raw" | grep -n "['\`\\\\^~-]\|^\\." >&2; then
		fail "recipe $1: the lines above need escapes" >&2
	fi
	sed -e 's/\\-/-/g' -e "s/\\\\(aq/'/g" -e 's/\\(ha/^/g' -e 's/\\e/\\/g' "$base/raw" >"$base/plain"
	sed -e "s|/mnt/vm|$tmp/mnt|g" -e "s|/backup/vm|$tmp/backup|g" -e "s|/srv/|$tmp/|g" \
		-e "s|/usr/local/bin|$tmp/bin|g" -e "s|/mnt/old|$tmp/old|g" -e "s|/root/|$tmp/root/|g" \
		"$base/plain"
}

# start: a new mount of vm.img, which holds random data.
start () {
	head -c 3M /dev/urandom >vm.img
	mount_fleecefs -o max-overlay=1M vm.img mnt
}

# write OFFSET LENGTH: random bytes to the live disk, in bytes.
write () {
	head -c "$2" /dev/urandom |
		dd of=mnt/.live/vm.img bs=64K oflag=seek_bytes seek="$1" conv=notrunc status=none ||
		fail 'cannot write the live disk'
}

# snapshots NAME...: there are these, and no other.
snapshots () {
	[ "$(cd mnt && echo *)" = "$*" ] || [ "$(ls mnt)$*" = '' ] ||
		fail "the snapshots are: $(ls mnt); not: $*"
}

# double NAME: of a program, from standard input.
double () {
	cat >"doubles/$1"
	chmod +x "doubles/$1"
}

# fails STATUS REGEX COMMAND...: with the status, and says so.
fails () {
	local status=$1 regex=$2 result=0
	shift 2

	"$@" >output 2>&1 || result=$?
	[ "$result" = "$status" ] || fail "$*: status $result, not $status: $(cat output)"
	grep -q "$regex" output || fail "$*: does not say '$regex': $(cat output)"
}

mkdir mnt bin doubles backup root old
for name in guest-snapshot rotate with-snapshot backup-rsync backup-borg backup-restic; do
	recipe "$name" >"bin/$name" || exit 1
	chmod +x "bin/$name"
done
ln -s "$FLEECECTL" bin/fleecectl
system_path=$PATH
export PATH=$tmp/doubles:$tmp/bin:$PATH

# ---- where nothing is mounted nothing is made ----

fails 1 'no fleecefs is mounted' with-snapshot mnt true
fails 1 'no fleecefs is mounted' rotate mnt 3
fails 1 'no fleecefs is mounted' backup-rsync mnt backup
fails 1 'there is no directory none' backup-rsync mnt none
[ ! -e none ] || fail 'where no disk for backups is mounted something is made'
[ -z "$(ls -A mnt)" ] || fail 'something was made in the mountpoint'
[ ! -e backup/latest ] || fail 'a backup of nothing'

# ---- a snapshot for the time of a command ----

start
# shellcheck disable=SC2016 # for the other shell
with-snapshot mnt sh -c 'ls mnt' >output 2>&1 || fail "with-snapshot: $(cat output)"
[ "$(cat output)" = backup ] || fail "with-snapshot: $(cat output)"
snapshots
fails 7 'status 7 of sh' with-snapshot mnt sh -c 'exit 7'
snapshots
fails 1 'another backup is running' with-snapshot mnt "$tmp/bin/with-snapshot" mnt true
snapshots
mkdir mnt/backup # of one that was killed
fails 0 'dropping the snapshot' with-snapshot mnt true
snapshots
mkdir mnt/monday
mkfifo started
setsid "$tmp/bin/with-snapshot" mnt sh -c 'echo >started; exec sleep 100' 2>output &
group=$!
read -r _ <started
snapshots backup monday
kill -- "-$group"
wait "$group" && fail 'it was ended, and has status 0'
snapshots monday
rmdir mnt/monday

# ---- keep the last ----

# Each time another second.
echo 0 >count
double date <<-'END'
	#!/bin/sh
	count=$(($(cat count) + 1))
	echo "$count" >count
	printf '20260101T%06dZ\n' "$count"
END
mkdir mnt/monday mnt/auto-matic
for _ in 1 2 3 4 5; do
	rotate mnt 3 >output 2>&1 || fail "rotate: $(cat output)"
	[ ! -s output ] || fail "rotate prints: $(cat output)"
done
snapshots auto-20260101T000003Z auto-20260101T000004Z auto-20260101T000005Z auto-matic monday
echo 4 >count
fails 1 'File exists' rotate mnt 3
sh -c "$(recipe rotate.cron | tail -n 1 | sed 's/^[0-9*]* \* \* \* \* root //')" || fail 'the line for cron fails'
[ "$(cd mnt && set -- * && echo $#)" = 6 ] || fail 'the line for cron has made no snapshot'
rmdir mnt/* || fail 'cannot drop them'

# ---- with the guest agent ----

# Tells when it was called and what snapshots there were; does as the files $freeze and $thaw say.
double virsh <<-'END'
	#!/bin/sh
	echo "$1 $2:$(ls mnt)" >>calls
	echo Done
	case $1 in
	domfsfreeze) eval "$(cat freeze)" ;;
	domfsthaw) eval "$(cat thaw)" ;;
	esac
END
double sleep <<-'END'
	#!/bin/sh
	echo "sleep $1" >>calls
END
sed -i 's/^limit=10/limit=1/' bin/guest-snapshot
grep -q '^limit=1	' bin/guest-snapshot || fail 'no limit to change'

# guest FREEZE THAW STATUS CALLS: how the snapshot x of a guest goes.
guest () {
	echo "$1" >freeze
	echo "$2" >thaw
	: >calls
	local status=0
	guest-snapshot vm1 mnt/x >output 2>&1 || status=$?
	[ "$status" = "$3" ] || fail "freeze: $1, thaw: $2: status $status: $(cat output)"
	[ "$(paste -sd, calls)" = "$4" ] || fail "freeze: $1, thaw: $2: $(cat calls)"
}
guest true true 0 'domfsfreeze vm1:,domfsthaw vm1:x'
[ ! -s output ] || fail "cron would send: $(cat output)"
guest true true 1 'domfsfreeze vm1:x,domfsthaw vm1:x' # there is such a snapshot
rmdir mnt/x
guest false true 1 'domfsfreeze vm1:,domfsthaw vm1:'
guest 'echo no agent >&2; false' false 1 'domfsfreeze vm1:,domfsthaw vm1:' # refused, so not frozen
[ "$(cat output)" = 'no agent' ] || fail "says: $(cat output)"
guest 'exec /bin/sleep 100' true 1 'domfsfreeze vm1:,domfsthaw vm1:'
guest true 'echo true >thaw; false' 0 'domfsfreeze vm1:,domfsthaw vm1:x,sleep 1,domfsthaw vm1:x'
rmdir mnt/x
guest true false 1 \
	'domfsfreeze vm1:,domfsthaw vm1:x,sleep 1,domfsthaw vm1:x,sleep 30,domfsthaw vm1:x'
grep -q 'vm1 may still be frozen; run virsh domfsthaw vm1' output || fail "says: $(cat output)"
rmdir mnt/x

# Killed in any way while the guest is being frozen, or is: it is thawed.
echo true >thaw
for signal in TERM KILL; do
	echo 'echo >started; read -r _ <go' >freeze
	rm -f go
	mkfifo go
	: >calls
	guest-snapshot vm1 mnt/x 2>output &
	guest_pid=$!
	read -r _ <started
	kill "-$signal" "$guest_pid"
	echo >go
	wait "$guest_pid" 2>/dev/null
	# After SIGKILL its parts go on.
	deadline=$((SECONDS + PATIENCE))
	until grep -q domfsthaw calls; do
		[ $SECONDS -lt $deadline ] || fail "killed by $signal while it freezes: no thaw"
		/bin/sleep 0.05
	done
	rmdir mnt/x || fail "killed by $signal: no snapshot"
done

# The others, with it.
echo true >freeze
: >calls
MKDIR='guest-snapshot vm1' with-snapshot mnt true || fail 'with-snapshot with a guest'
[ "$(paste -sd, calls)" = 'domfsfreeze vm1:,domfsthaw vm1:backup' ] || fail "$(cat calls)"
echo false >freeze
MKDIR='guest-snapshot vm1' with-snapshot mnt touch ran 2>output && fail 'no freeze, and status 0'
[ ! -e ran ] || fail 'no freeze, and the command was run'
snapshots
rm doubles/virsh doubles/sleep

# ---- backups ----

# breaking TOOL: a double of the tool that first lets the guest write more than there is room for,
# and is then the tool.
breaking () {
	double "$1" <<-END
		#!/bin/sh
		if [ "\$1" != init ]; then
			head -c 3M /dev/urandom | dd of=$tmp/mnt/.live/vm.img bs=64K conv=notrunc status=none
		fi
		exec $(PATH=$system_path command -v "$1") "\$@"
	END
}

# newest COMMAND...: what it runs in an empty directory leaves there the image of the newest backup.
newest () {
	rm -rf out
	mkdir out
	(cd out && "$@") >output 2>&1 || fail "$*: $(cat output)"
	find out -name vm.img | grep . || fail "$*: there is no vm.img"
}

cp vm.img truth
backup-rsync mnt backup >output 2>&1 || fail "backup-rsync: $(cat output)"
[ ! -s output ] || fail "the first backup-rsync prints: $(cat output)"
same truth backup/latest/vm.img
first=$(readlink backup/latest)
snapshots
backup-rsync mnt backup >output 2>&1 || fail "backup-rsync: $(cat output)"
[ ! -s output ] || fail "backup-rsync prints: $(cat output)"
[ "$(readlink backup/latest)" != "$first" ] || fail 'no second backup'
[ backup/latest/vm.img -ef "backup/$first/vm.img" ] || fail 'an unwritten disk is copied again'
write 65536 1000
cp vm.img truth
last=$(readlink backup/latest)
recipe backup.cron | tail -n 1 | sed 's/^[0-9* ]* root //' >line
sh -e line || fail 'the line for cron fails'
same truth backup/latest/vm.img
last=$(readlink backup/latest)
recipe vm-backup.service | sed -n 's/^ExecStart=//p' >line
sh -e line || fail 'the line of the service fails'
last=$(readlink backup/latest)

breaking rsync
write 0 4096 # else it would not read the disk
fails 23 'backup *broken: .*max-overlay' backup-rsync mnt backup
snapshots
[ "$(readlink backup/latest)" = "$last" ] || fail 'a broken snapshot became the latest backup'
same truth backup/latest/vm.img
rm doubles/rsync

# What is not on the disk for backups does not become the latest.
double sync <<-'END'
	#!/bin/sh
	[ "$*" = '-f backup' ] && [ -e backup/part/vm.img ] && exec false
END
write 0 4096
backup-rsync mnt backup && fail 'sync fails, and the status is 0'
[ "$(readlink backup/latest)" = "$last" ] || fail 'what is not on the disk became the latest backup'
rm doubles/sync
# Nor does what a crash has left of it, which may look like the disk.
chmod u+w backup/part/vm.img
noise "$(stat -c %s vm.img)" >backup/part/vm.img
touch -r mnt/.live/vm.img backup/part/vm.img
cp vm.img truth
backup-rsync mnt backup >output 2>&1 || fail "backup-rsync: $(cat output)"
same truth backup/latest/vm.img
fails 1 'another backup to backup is running' flock backup "$tmp/bin/backup-rsync" mnt backup

# The last 30 stay.
mkdir -p pruned/backup/vm/20260101T0000{10..45}Z pruned/backup/vm/part
ln -s 20260101T000045Z pruned/backup/vm/latest
recipe prune >/dev/null && sed "s|/backup/vm|$tmp/pruned&|" "$base/plain" >line
sh -e line || fail 'the line that prunes fails'
[ "$(cd pruned/backup/vm && echo *)" = "$(echo 20260101T0000{16..45}Z latest part)" ] ||
	fail "prunes others: $(ls pruned/backup/vm)"

if command -v systemd-analyze >/dev/null; then
	for unit in vm-backup.service vm-backup.timer; do
		recipe $unit | grep -v '^RequiresMountsFor' >$unit
	done
	systemd-analyze verify ./vm-backup.service ./vm-backup.timer >output 2>&1 ||
		fail "the units: $(cat output)"
fi

cp vm.img truth
if command -v borg >/dev/null; then
	export BORG_REPO=$tmp/borg BORG_BASE_DIR=$tmp/borg-home BORG_PASSPHRASE=x
	borg init --encryption repokey >output 2>&1 || fail "borg init: $(cat output)"
	backup-borg mnt >output 2>&1 || fail "backup-borg: $(cat output)"
	archive=$(borg list --short --last 1)
	same truth "$(newest borg extract --sparse "::$archive")"
	backup-borg mnt >output 2>&1 || fail "backup-borg: $(cat output)"
	sed 's/borg create/& --list/' bin/backup-borg | sh -s mnt >output 2>&1 || fail "$(cat output)"
	grep -q '^U .*vm.img' output || fail "borg reads an unwritten disk again: $(cat output)"
	breaking borg
	write 0 4096
	fails 1 'backup *broken: ' backup-borg mnt
	rm doubles/borg
	cp vm.img truth
	n=$(borg list --short | wc -l)
	[ "$n" -ge 2 ] || fail "after a failed backup borg has only $n archives"
	snapshots
fi

cp vm.img truth
if command -v restic >/dev/null; then
	export RESTIC_REPOSITORY=$tmp/restic RESTIC_PASSWORD_FILE=$tmp/password XDG_CACHE_HOME=$tmp/cache
	echo x >password
	restic init >output 2>&1 || fail "restic init: $(cat output)"
	backup-restic mnt >output 2>&1 || fail "backup-restic: $(cat output)"
	[ ! -s output ] || fail "backup-restic prints: $(cat output)"
	same truth "$(newest restic restore latest --target .)"
	sed 's/restic backup -q/restic backup/' bin/backup-restic | sh -s mnt >output 2>&1 || fail "$(cat output)"
	grep -q '0 new, *0 changed, *1 unmodified' output || fail "restic reads an unwritten disk again: $(cat output)"
	breaking restic
	write 0 4096
	fails 3 'backup *broken: ' backup-restic mnt
	rm doubles/restic
	snapshots
fi

# ---- restore ----

unmount mnt
mount_fleecefs vm.img mnt
cp vm.img truth
mkdir mnt/monday
write 4096 8192
cp vm.img later
recipe rollback >commands
sh -e commands || fail 'rollback fails'
same truth mnt/.live/vm.img
same truth mnt/monday/vm.img
same later mnt/before/vm.img
write 4096 8192
rm -rf backup/again
mkdir backup/again
cp later backup/again/vm.img
chmod 444 backup/again/vm.img
ln -sfn again backup/latest
recipe restore >commands
if [ "$(id -u)" != 0 ]; then
	sed -i 's/^umount/fusermount3 -u/' commands
fi
sh -e commands || fail 'restore fails'
same later vm.img
[ -w vm.img ] || fail 'the restored image cannot be written'
mount_fleecefs vm.img mnt
same later mnt/.live/vm.img
snapshots
unmount mnt

if [ "$(id -u)" = 0 ] && command -v losetup mke2fs >/dev/null; then
	mkdir -p files/etc
	echo vm1 >files/etc/hostname
	chmod u+w backup/again/vm.img
	mke2fs -q -F -d files -t ext4 backup/again/vm.img 8M 2>/dev/null || fail 'no file system'
	recipe restore-file >commands
	if losetup --find >/dev/null 2>&1; then
		sh -e commands || fail 'restore of a file fails'
		same files/etc/hostname root/hostname
	fi
fi

# ---- what people copy from the terminal, and give to QEMU ----

if command -v man >/dev/null && command -v groff >/dev/null; then
	LC_ALL=C.UTF-8 MANWIDTH=80 man -l "$page" 2>/dev/null | col -b | tr -d ' \t\n' >text
	sed -n 's/^\.\\" begin //p' "$page" >names
	while read -r name; do
		recipe "$name" >/dev/null || exit 1
		grep -qF -- "$(tr -d ' \t\n' <"$base/plain")" text || fail "man shows $name as something else"
	done <names
fi

recipe disk.xml >disk.xml
if command -v xmllint >/dev/null; then
	xmllint --noout disk.xml || fail 'the XML is none'
fi
grep -q "file='$tmp/mnt/.live/vm.img'" disk.xml || fail 'the XML names another file'
if command -v qemu-io >/dev/null; then
	cache=$(sed -n "s/.*cache='\([a-z]*\)'.*/\1/p" disk.xml)
	io=$(sed -n "s/.* io='\([a-z]*\)'.*/\1/p" disk.xml)
	grep -q "cache=$cache,aio=$io" <(recipe qemu) || fail 'QEMU and libvirt differ'
	mount_fleecefs vm.img mnt
	qemu-io -f raw -t "$cache" -i "$io" -c 'write -P 7 0 64k' -c flush -c 'read -P 7 0 64k' \
		mnt/.live/vm.img >output 2>&1 || fail "qemu-io: $(cat output)"
	unmount mnt
fi
