# SPDX-License-Identifier: GPL-2.0-or-later
#
# The table of ratios: each round's ratio of two targets, their median and spread, and the goal.

BEGIN {
	FS = ","
	steady("live", 0.95)
	steady("saved", 0.92)
	compare("4k first write, depth 16", "fleecefs", "forwarder", 0.40)
	compare("4k first write, depth 16", "fleecefs", "qemu", 8)
	compare("4k first write, depth 16", "fleecefs", "reflink", 2)
	compare("1M first write, depth 4", "fleecefs", "forwarder", 0.40)
	compare("1M first write, depth 4", "fleecefs", "qemu", 4)
	compare("4k first write, depth 16, again", "hundred", "one", 0.95)
	compare("snapshot cp", "fleecefs", "forwarder", 0.95)
	compare("snapshot cp", "fleecefs", "qemu", 4)
	compare("snapshot cp, half diverged", "fleecefs", "forwarder", 0.6)
	compare("snapshot cp, oldest", "hundred", "one", 0.9)
	compare("snapshot 4k random read, depth 16", "fleecefs", "forwarder", 0.92)
	compare("write beside cp, of that alone", "fleecefs", "forwarder", 1)
	bound("mkdir under 16 writers, median", "fleecefs", 3)
	bound("mkdir under 16 writers, 99 %", "fleecefs", 15)
	bound("mkdir, the 100th snapshot, median", "fleecefs", 3)
	bound("mkdir, the 100th snapshot, 99 %", "fleecefs", 15)
	bound("mkdir, 1 TiB, median", "fleecefs", 3)
	bound("mkdir, 1 TiB, 99 %", "fleecefs", 15)
	compare("worst 4k write, a mkdir each second", "fleecefs", "forwarder", 3)
	most[n] = 1
	bound("rmdir", "fleecefs", 10)
	bound("rmdir, of what is in the page cache", "fleecefs", 10)
	compare("merge", "fleecefs", "cp", 0.5)
	bound("mount, 1 TiB, 10 snapshots", "fleecefs", 1000)
	bound("memory then", "fleecefs", 32768 + 32000) # pages of tables: 8000 blocks at random
	bound("store bytes for each byte of first write, allocated", "fleecefs", 1.3)
	bound("store bytes for each byte of first write, written", "fleecefs", 1.3)
	compare("power: first write", "fleecefs", "fdatasync", 0.77)
	compare("power: first write", "fleecefs", "new-blocks", 0.77)
	bound("power: first write, depth 16", "fleecefs", 0)
}

function compare(work, a, b, goal) {
	n++
	works[n] = work; as[n] = a; bs[n] = b; goals[n] = goal
}

function bound(work, a, goal) {
	compare(work, a, "", goal)
	most[n] = 1
}

function steady(prefix, goal) {
	compare(prefix " 4k random read, depth 1", "fleecefs", "forwarder", goal)
	compare(prefix " 4k random read, depth 16", "fleecefs", "forwarder", goal)
	compare(prefix " 4k random write, depth 1", "fleecefs", "forwarder", goal)
	compare(prefix " 4k random write, depth 16", "fleecefs", "forwarder", goal)
	compare(prefix " 1M read, depth 4", "fleecefs", "forwarder", goal)
	compare(prefix " 1M write, depth 4", "fleecefs", "forwarder", goal)
}

# Names of works have commas in them: they are all but the last five fields.
{
	work = $1
	for (i = 2; i <= NF - 5; i++)
		work = work "," $i
	target = $(NF - 4); round = $(NF - 3)
	value[work, target, round] = $(NF - 2)
	unit[work] = $(NF - 1)
	cpu[work, target, round] = $NF
	if (round ~ /^[0-9]+$/ && round > rounds)
		rounds = round
}

# Sorts v[1..m]; an insertion sort, for a handful of rounds.
function sort_values(v, m, i, j, x) {
	for (i = 2; i <= m; i++) {
		x = v[i]
		for (j = i - 1; j > 0 && v[j] > x; j--)
			v[j + 1] = v[j]
		v[j + 1] = x
	}
}

function median(v, m) {
	return m % 2 ? v[(m + 1) / 2] : (v[m / 2] + v[m / 2 + 1]) / 2
}

function median_of(table, work, target, r, m, v) {
	m = 0
	for (r = 1; r <= rounds; r++)
		if ((work, target, r) in table)
			v[++m] = table[work, target, r]
	sort_values(v, m)
	return m ? median(v, m) : ""
}

function figure(x) {
	return sprintf(x < 100 ? "%.3g" : "%.0f", x)
}

function cpu_text(work, target, us) {
	us = median_of(cpu, work, target)
	return us == "" || us == 0 ? "" : sprintf("%.1f", us)
}

END {
	printf "%-52s %-10s %10s  %-10s %10s  %6s  %-13s %6s  %s\n", "work", "", "", "against", "", \
		"ratio", "[min, max]", "goal", "CPU us/op"
	for (k = 1; k <= n; k++) {
		m = 0
		split("", ratio)
		for (r = 1; r <= rounds; r++) {
			if (!((works[k], as[k], r) in value))
				continue
			if (bs[k] == "")
				ratio[++m] = value[works[k], as[k], r]
			else if ((works[k], bs[k], r) in value && value[works[k], bs[k], r] > 0)
				ratio[++m] = value[works[k], as[k], r] / value[works[k], bs[k], r]
		}
		if (!m)
			continue
		sort_values(ratio, m)
		x = median(ratio, m)
		met = goals[k] == 0 ? "" : (most[k] ? x <= goals[k] : x >= goals[k]) ? "" : "  MISSED"
		goal = goals[k] == 0 ? "" : (most[k] ? "<= " : ">= ") goals[k]
		other = cpu_text(works[k], bs[k])
		printf "%-52s %-10s %10s  %-10s %10s  %6.2f  %-13s %6s  %s%s%s\n", works[k], as[k], \
			figure(median_of(value, works[k], as[k])) unit[works[k]], bs[k], \
			bs[k] == "" ? "" : figure(median_of(value, works[k], bs[k])) unit[works[k]], \
			x, sprintf("[%.2f, %.2f]", ratio[1], ratio[m]), goal, cpu_text(works[k], as[k]), \
			other == "" ? "" : " / " other, met
	}
}
