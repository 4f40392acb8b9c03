#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The layers of fleecefs/ include only themselves and what stands below them, each include names
# its layer, and only fs knows FUSE. ctl, another program, stands on base, and nothing on it.
#
# Then the test proves on planted files that each rule can fail.

set -eu

top=${top_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}

# From low to high.
layers='base ctl store source overlay cow snapshot fs'

# check_layers TREE: prints what is wrong in TREE/fleecefs; fails if there is anything, or nothing
# to check.
check_layers () {
	(
		cd "$1"
		# shellcheck disable=SC2046 # names of sources have no spaces
		awk -v layers="$layers" '
			function wrong(what) {
				printf "%s:%d: %s\n", FILENAME, FNR, what
				bad = 1
			}
			BEGIN {
				n = split(layers, layer, " ")
				for (i = 1; i <= n; i++)
					rank[layer[i]] = i
			}
			FNR == 1 {
				n_parts = split(FILENAME, part, "/")
				own = n_parts > 2 ? part[2] : "none"
				if (n_parts != 3 || !(own in rank))
					wrong("file is not in the folder of a layer")
			}
			!/^[ \t]*#[ \t]*include/ { next }
			{
				n_includes++
				line = $0
				sub(/^[ \t]*#[ \t]*include[ \t]*/, "", line)
				quoted = substr(line, 1, 1) == "\""
				included = line
				sub(/^["<]/, "", included)
				sub(/[">].*$/, "", included)
				n_parts = split(included, part, "/")
				target = part[1]
			}
			own != "fs" && included ~ /(^|\/)fuse[^\/]*\.h$|^fuse[0-9]*\// {
				wrong("only fs includes headers of FUSE: " included)
			}
			included == "config.h" { next }
			quoted && (n_parts != 2 || !(target in rank)) {
				wrong("include does not name its layer: \"" included "\"")
				next
			}
			!quoted && n_parts == 2 && (target in rank) {
				wrong("header of this project in angle brackets: <" included ">")
			}
			n_parts == 2 && (target in rank) && (own in rank) && rank[target] > rank[own] {
				wrong(own " is below " target ", which it includes: " included)
			}
			target == "ctl" && own != "ctl" {
				wrong("ctl is a program of its own: " included)
			}
			own == "cow" && included ~ /^overlay\/qcow2-/ {
				wrong("cow knows overlays, not the tables of qcow2: " included)
			}
			END {
				if (!n_includes) {
					print "no includes found"
					bad = 1
				}
				exit bad
			}' $(find fleecefs -name '*.[ch]' | sort) </dev/null
	)
}

# plant TREE FILE LINE...: writes a file of a planted tree.
plant () {
	mkdir -p "$(dirname "$1/fleecefs/$2")"
	file=$1/fleecefs/$2
	shift 2
	printf '%s\n' "$@" >"$file"
}

# must_fail MESSAGE FILE LINE...: a good tree is refused with MESSAGE once it has FILE.
must_fail () {
	message=$1
	shift
	rm -rf "$tmp/bad"
	cp -R "$tmp/good" "$tmp/bad"
	plant "$tmp/bad" "$@"
	if check_layers "$tmp/bad" >"$tmp/output"; then
		echo "FAIL: a planted $1 passes that should not: $message"
		exit 1
	elif ! grep -qF "$1" "$tmp/output" || ! grep -qF "$message" "$tmp/output"; then
		echo "FAIL: a planted $1 should be refused with '$message', but:"
		cat "$tmp/output"
		exit 1
	fi
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

plant "$tmp/good" base/io.h '#pragma once' '#include <stdint.h>'
plant "$tmp/good" base/io.c '#include "config.h"' '#include "base/io.h"' '#include <linux/fs.h>'
plant "$tmp/good" overlay/qcow2-map.h '#include "base/io.h"'
plant "$tmp/good" overlay/overlay.h '#include "overlay/qcow2-map.h"' '#include "source/source.h"'
plant "$tmp/good" cow/disk.c '#include "overlay/overlay.h"' '#  include "base/io.h" /* why */'
plant "$tmp/good" fs/main.c '#include "snapshot/snapshots.h"' '#include <fuse_lowlevel.h>' \
	'#include <linux/fuse.h>' '#include "base/io.h"'
if ! check_layers "$tmp/good"; then
	echo 'FAIL: a planted good tree does not pass'
	exit 1
fi

must_fail 'base is below store' base/io.c '#include "store/store.h"'
must_fail 'store is below source' store/store.h '	# include "source/source.h"'
must_fail 'snapshot is below fs' snapshot/merge.c '#include "base/io.h"' '#include "fs/tree.h"'
must_fail 'does not name its layer' base/io.c '#include "io.h"'
must_fail 'does not name its layer' base/io.c '#include "../base/io.h"'
must_fail 'does not name its layer' cow/disk.c '#include "utils/io.h"'
must_fail 'angle brackets' cow/disk.c '#include <base/io.h>'
must_fail 'only fs includes' cow/disk.c '#include <fuse_lowlevel.h>'
must_fail 'only fs includes' snapshot/merge.h '#include <fuse3/fuse.h>'
must_fail 'only fs includes' base/io.c '#include <linux/fuse.h>'
must_fail 'not the tables of qcow2' cow/disk.c '#include "overlay/qcow2-map.h"'
must_fail 'ctl is below store' ctl/main.c '#include "store/store.h"'
must_fail 'a program of its own' fs/main.c '#include "ctl/text.h"'
must_fail 'not in the folder of a layer' util.c '#include "base/io.h"'
must_fail 'not in the folder of a layer' misc/util.c '#include "base/io.h"'
must_fail 'not in the folder of a layer' base/more/util.c '#include "base/io.h"'
mkdir -p "$tmp/empty/fleecefs"
if check_layers "$tmp/empty" >"$tmp/output"; then
	echo 'FAIL: a tree without sources passes'
	exit 1
fi

check_layers "$top"
echo 'the layers are kept'
