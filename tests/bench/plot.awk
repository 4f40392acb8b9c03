# SPDX-License-Identifier: GPL-2.0-or-later
#
# A bar for each work: fleecefs over the forwarder, the median of the rounds, as SVG.

BEGIN { FS = "," }

{
	work = $1
	for (i = 2; i <= NF - 5; i++)
		work = work "," $i
	if (!(work in seen)) {
		seen[work] = 1
		order[++n] = work
	}
	value[work, $(NF - 4), $(NF - 3)] = $(NF - 2)
	if ($(NF - 3) ~ /^[0-9]+$/ && $(NF - 3) > rounds)
		rounds = $(NF - 3)
}

function median_ratio(work, r, m, v, i, j, x) {
	m = 0
	for (r = 1; r <= rounds; r++)
		if (value[work, "forwarder", r] > 0 && (work, "fleecefs", r) in value) {
			x = value[work, "fleecefs", r] / value[work, "forwarder", r]
			for (j = m; j > 0 && v[j] > x; j--)
				v[j + 1] = v[j]
			v[j + 1] = x
			m++
		}
	return !m ? -1 : m % 2 ? v[(m + 1) / 2] : (v[m / 2] + v[m / 2 + 1]) / 2
}

END {
	rows = 0
	body = ""
	for (k = 1; k <= n; k++) {
		x = median_ratio(order[k])
		if (x < 0 || order[k] ~ /^worst/)
			continue
		y = 40 + rows++ * 22
		width = (x > 1.5 ? 1.5 : x) * 300
		body = body sprintf("<text x=\"290\" y=\"%d\" text-anchor=\"end\">%s</text>\n", y + 12, order[k])
		body = body sprintf("<rect x=\"300\" y=\"%d\" width=\"%.0f\" height=\"15\" fill=\"#4878a8\"/>\n", y, width)
		body = body sprintf("<text x=\"%.0f\" y=\"%d\">%.2f</text>\n", 306 + width, y + 12, x)
	}
	height = 60 + rows * 22
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"820\" height=\"%d\"", height
	print " font-family=\"sans-serif\" font-size=\"12\">"
	print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
	print "<text x=\"300\" y=\"20\" font-weight=\"bold\">fleecefs over a bare forwarder (1 is the limit of the transport)</text>"
	printf "%s<line x1=\"600\" y1=\"30\" x2=\"600\" y2=\"%d\" stroke=\"#888\" stroke-dasharray=\"4\"/>\n</svg>\n", body, height - 20
}
