#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# .fleecefs/metrics is in the text format of Prometheus, whatever names and paths hold, and says the
# same as status.json.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
in_memory
setup
mkdir mnt

# The checker: a strict reader of version 0.0.4, which prints its findings, and the samples as JSON.
cat >check.py <<'PYTHON'
import json, re, sys

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(r"(%s)(?:\{((?:%s(?:,(?=[a-zA-Z_]))?)*)\})? ([0-9]+)\Z" % (NAME, LABEL))

def read(text):
    helps, types, samples, closed, last = {}, {}, {}, set(), None
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for line in text[:-1].split("\n"):
        words = re.match(r"# (HELP|TYPE) (%s) (.+)\Z" % NAME, line)
        sample = SAMPLE.match(line)
        if not words and not sample:
            raise ValueError("no HELP, TYPE or sample: %r" % line)
        name = words.group(2) if words else sample.group(1)
        if name != last:
            if name in closed:
                raise ValueError("lines of %s stand apart" % name)
            closed.add(last)
            last = name
        if words:
            kind, _, rest = words.groups()
            table = helps if kind == "HELP" else types
            if name in table or name in [key[0] for key in samples]:
                raise ValueError("a second or late %s: %r" % (kind, line))
            if kind == "TYPE" and rest not in ("counter", "gauge"):
                raise ValueError("unknown type: %r" % line)
            if kind == "HELP" and re.search(r"\\[^\\n]", rest):
                raise ValueError("bad escape: %r" % line)
            table[name] = rest
            continue
        if name not in helps or name not in types:
            raise ValueError("no HELP or TYPE before: %r" % line)
        if (types[name] == "counter") != name.endswith("_total"):
            raise ValueError("counters, and only they, end in _total: %r" % line)
        pairs = re.findall(LABEL, sample.group(2) or "")
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a label twice: %r" % line)
        values = tuple(re.sub(r'\\(["\\n])', lambda m: {"n": "\n"}.get(m[1], m[1]), v) for _, v in pairs)
        key = (name,) + values
        if key in samples:
            raise ValueError("a sample twice: %r" % line)
        samples[key] = int(sample.groups()[-1])
    return samples

def main():
    # The reader itself: what it must refuse.
    for bad in ("x 1\n", "# HELP x a\n# TYPE x gauge\nx 1", "# TYPE x gauge\n# HELP x a\nx{a=\"b\"c\"} 1\n",
                "# HELP x a\n# TYPE x gauge\nx{a=\"\\t\"} 1\n", "# HELP x a\n# TYPE x gauge\nx 1\nx 2\n",
                "# HELP x a\n# TYPE x counter\nx 1\n", "# HELP x a\n# TYPE x gauge\nx{a=\"b\",} 1\n",
                "# HELP x a\n# TYPE x gauge\n\nx 1\n"):
        try:
            read(bad)
        except ValueError:
            continue
        sys.exit("passes, and should not: %r" % bad)

    samples = read(open(sys.argv[1], "rb").read().decode("utf-8"))
    s = json.load(open(sys.argv[2]))
    f = lambda name, *labels: samples[("fleecefs_" + name,) + labels]
    assert f("info", s["version"], s["durability"], s["store"]["path"]) == 1
    assert f("mount_time_seconds") == s["mounted_unix"]
    for disk in s["disks"]:
        assert f("disk_size_bytes", disk["name"]) == disk["size_bytes"]
        for counter, value in disk["counters"].items():
            own = counter in ("reads", "read_bytes", "writes", "written_bytes", "discards", "flushes")
            assert f(("guest_" if own else "") + counter + "_total", disk["name"]) == value, counter
    states = [snapshot["state"] for snapshot in s["snapshots"]]
    for state in "ok", "broken":
        assert f("snapshots", state) == states.count(state)
    for snapshot in s["snapshots"]:
        assert f("snapshot_kept_bytes", snapshot["name"]) == snapshot["kept_bytes"]
        assert f("snapshot_created_seconds", snapshot["name"]) == snapshot["created_unix"]
        assert f("snapshot_broken", snapshot["name"]) == (snapshot["state"] == "broken")
    for name in "kept", "size", "max_overlay", "reserve":
        assert f("store_%s_bytes" % name) == s["store"][name + "_bytes"]
    assert f("store_free_bytes") > 0
    for name in "levels", "removed_levels", "removed_kept_bytes":
        assert f(name) == s["store"][name]
    assert f("max_snapshots") == s["max_snapshots"]
    assert f("merges") == len(s["merges"]) == 0
    assert f("freeze_waits_total") == s["freeze_waits"]

main()
PYTHON

# lint: both readers; the second one if it is there.
lint () {
	cp mnt/.fleecefs/metrics mnt/.fleecefs/status.json . || fail 'cp'
	python3 check.py metrics status.json || fail "metrics: $(cat metrics)"
	if command -v promtool >/dev/null; then
		promtool check metrics <./metrics >output 2>&1 || fail "promtool: $(cat output)"
		[ ! -s output ] || fail "promtool: $(cat output)"
	fi
	rm -f metrics status.json
}

noise 1048576 >img
cp img other
store=$'s "\\\n\e[1m'
mount_fleecefs -o store="${store//\\/\\\\}" 'a"\b é=img' other mnt
lint
mkdir mnt/one 'mnt/two "\n"'
patch mnt/.live/other 0 16384 direct
patch mnt/.live/other 0 16384 direct
dd if=mnt/one/other of=read bs=64k status=none || fail 'dd'
lint
truncate -s 4096 other
patch mnt/.live/other 1044480 4096 direct
lint
grep -q '^fleecefs_snapshots{state="broken"} 2$' mnt/.fleecefs/metrics || fail 'nothing broke'
unmount mnt
