#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	databases.sh [sqlite] [postgresql]
#
# Databases on a file system on the live disk, under load: the copy of a snapshot recovers, with every
# row whose commit had returned before mkdir, with no part of a transaction, and with none that
# began after mkdir.
#
# Two clients commit one transaction after the other and say so in report-1 and report-2. SQLite has
# a database for each, one with a write-ahead log and one with a rollback journal.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

TRANSACTIONS=${TRANSACTIONS:-25} # of each client, between two snapshots
# shellcheck disable=SC2034 # for lib-data.sh
PATIENCE=60

need mkfs.ext4 e2fsck losetup stdbuf setpriv
# Else a copy of the mounts, in a namespace that somebody else makes, could hold a loop device.
private_mounts "$@"
in_memory
setup
chmod 755 "$base" "$tmp"
mkdir mnt fs seen

# ---- what clients do, in the SQL of both ----

# Row k of transaction n says in version which transaction wrote it last; account has the sum of all.
schema () {
	cat <<-END
	CREATE TABLE rows$1 (n integer, k integer, version integer, filler text, PRIMARY KEY (n, k));
	CREATE TABLE account$1 (n integer, versions bigint);
	INSERT INTO account$1 VALUES (0, 0);
	END
}

# transactions CLIENT: adds eight rows at a time, and writes the eight of another transaction anew;
# until there is a file stop.
transactions () {
	local k n=0 other values

	while [ ! -e stop ]; do
		n=$((n + 1))
		other=$((n * 7919 % (n / 2 + 1) + 1))
		values=
		for k in 1 2 3 4 5 6 7 8; do
			values+="${values:+,}($n,$k,$n,'$RANDOM-$RANDOM-$RANDOM-$RANDOM-$RANDOM-$RANDOM')"
		done
		cat <<-END
		BEGIN;
		INSERT INTO rows$1 VALUES $values;
		UPDATE rows$1 SET version = $n WHERE n = $other;
		UPDATE account$1 SET n = $n, versions = (SELECT sum(version) FROM rows$1);
		COMMIT;
		SELECT 'committed $n';
		END
	done
}

# Prints the last transaction if the tables are as whole transactions leave them.
verdict () {
	cat <<-END
	SELECT CASE WHEN (SELECT count(*) FROM rows$1) = 8 * n
		AND (SELECT count(DISTINCT n) FROM rows$1) = n
		AND (SELECT coalesce(max(n), 0) FROM rows$1) = n
		AND (SELECT coalesce(sum(version), 0) FROM rows$1) = versions
		THEN n ELSE -1 END FROM account$1;
	END
}

n_committed () {
	sed -n 's/^committed \([0-9]*\)$/\1/p' "report-$1" | tail -n 1
}

has_committed () {
	[ "$(n_committed "$1")" -ge "$2" ] 2>/dev/null || ! kill -0 "${clients[$1]}" 2>/dev/null
}

await_transactions () {
	local client

	for client in 1 2; do
		await has_committed "$client" $(($(n_committed "$client") + TRANSACTIONS)) &&
			kill -0 "${clients[$client]}" ||
			fail "client $client stands still: $(tail -n 5 "report-$client" errors)"
	done
}

# check CLIENT LAST BEFORE AFTER: LAST is what the verdict was.
check () {
	if ! [ "$2" -ge "$3" ] || ! [ "$2" -le $(($4 + 1)) ]; then
		fail "client $1: up to $2, and $3 to $(($4 + 1)) should be there: $(cat errors)"
	fi
}

# ---- SQLite ----

sqlite_here () {
	command -v sqlite3 >/dev/null
}

sqlite_start () {
	(echo 'PRAGMA journal_mode = wal;' && schema 1) | sqlite3 fs/1.db >output || fail 'schema'
	schema 2 | sqlite3 fs/2.db || fail 'schema'
}

# Extra: without it the commit that removes a rollback journal may be taken back by a loss of power.
sqlite_client () {
	(echo 'PRAGMA synchronous = extra;' && transactions "$1") |
		stdbuf -oL sqlite3 -bail "fs/$1.db"
}

sqlite_stop () {
	:
}

sqlite_open () {
	[ -s seen/1.db-wal ] || fail 'the write-ahead log is not in the snapshot'
}

sqlite_verdict () {
	[ "$(sqlite3 "seen/$1.db" 'PRAGMA integrity_check')" = ok ] || fail "integrity_check of $1.db"
	verdict "$1" | sqlite3 "seen/$1.db"
}

sqlite_close () {
	:
}

# ---- PostgreSQL, which does not run as root ----

# server DIRECTORY: runs one in the background, as $server, and waits for it.
server () {
	setpriv --reuid="$USER_NAME" --regid="$(id -g "$USER_NAME")" --clear-groups \
		"$postgres/postgres" -D "$1/data" -k "$tmp/socket" -c listen_addresses= \
		-c shared_buffers=16MB -c wal_sync_method=fdatasync -c checkpoint_timeout=30s \
		-c max_wal_size=32MB >>server.log 2>&1 &
	server=$!
	await server_answers || fail "PostgreSQL does not start: $(cat output) $(tail server.log)"
}

server_answers () {
	kill -0 "$server" 2>/dev/null || fail "PostgreSQL ended: $(tail server.log)"
	"$postgres/psql" -h "$tmp/socket" -U test -d postgres -qAtc 'SELECT 1' >output 2>&1
}

server_end () {
	kill -INT "$server"
	wait "$server" || fail "PostgreSQL ended with $?: $(tail server.log)"
}

query () {
	"$postgres/psql" -h "$tmp/socket" -U test -d postgres -v ON_ERROR_STOP=1 -qAt "$@"
}

postgresql_here () {
	for postgres in "$(dirname "$(realpath -q "$(command -v postgres)")")" \
		/usr/lib/postgresql*/bin /usr/lib/postgresql/*/bin; do
		if [ -x "$postgres/postgres" ] && [ -x "$postgres/psql" ]; then
			return 0
		fi
	done
	return 1
}

postgresql_start () {
	install -d -o "$USER_NAME" socket fs/data
	as_user "$postgres/initdb" -D fs/data -U test -A trust -k >output 2>&1 ||
		fail "initdb: $(cat output)"
	server fs
	(schema 1 && schema 2) | query || fail 'schema'
}

postgresql_client () {
	transactions "$1" | query
}

postgresql_stop () {
	server_end
}

postgresql_open () {
	server seen
	grep -q 'automatic recovery in progress' server.log || fail 'there was nothing to recover'
}

postgresql_verdict () {
	verdict "$1" | query
}

# Every page has a checksum.
postgresql_close () {
	query -c 'CHECKPOINT'
	server_end
	as_user "$postgres/pg_checksums" --check -D seen/data >output 2>&1 ||
		fail "torn pages: $(cat output)"
}

# ---- the same for both ----

try () {
	local database=$1 number client live_loop last
	local -A before=() after=()

	rm -rf img img.fleece copy stop server.log report-*
	truncate -s 256M img
	mkfs.ext4 -q img || fail 'mkfs'
	mount_fleecefs img mnt
	loop_device mnt/.live/img --direct-io=on
	live_loop=$loop
	mount "$loop" fs || skip 'cannot mount ext4'
	"${database}_start"
	: >report-1
	: >report-2

	for client in 1 2; do
		"${database}_client" "$client" >"report-$client" 2>>errors &
		clients[client]=$!
	done
	for number in 1 2 3 4 5; do
		await_transactions
		for client in 1 2; do before[$client$number]=$(n_committed $client); done
		mkdir "mnt/$number" || fail 'mkdir'
		for client in 1 2; do after[$client$number]=$(n_committed $client); done
	done
	await_transactions
	: >stop
	wait "${clients[1]}" && wait "${clients[2]}" || fail "a client got an error: $(cat errors)"
	"${database}_stop"
	umount fs || fail 'umount'
	losetup -d "$live_loop" || fail 'losetup -d'

	for number in 1 2 3 4 5; do
		cp --sparse=always "mnt/$number/img" copy || fail 'cp'
		loop_device copy
		mount "$loop" seen || fail 'cannot mount a copy'
		: >server.log
		"${database}_open"
		for client in 1 2; do
			last=$("${database}_verdict" "$client") || exit
			check "$client" "$last" "${before[$client$number]}" "${after[$client$number]}"
		done
		"${database}_close"
		umount seen || fail 'umount'
		losetup -d "$loop" || fail 'losetup -d'
		e2fsck -fn copy >output 2>&1 || fail "e2fsck: $(cat output)"
	done
	unmount mnt
	echo "$database: five snapshots in $(n_committed 1) and $(n_committed 2) transactions are right"
}

: >errors
clients=()
[ $# -gt 0 ] || set -- sqlite postgresql
n_tried=0
for database; do
	if "${database}_here"; then
		try "$database"
		n_tried=$((n_tried + 1))
	else
		echo "without $database, which is not installed"
	fi
done
[ "$n_tried" -gt 0 ] || skip 'neither SQLite nor PostgreSQL is installed'
