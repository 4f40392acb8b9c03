#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every header says what it is for, and every function that it declares has a comment directly
# above. A comment counts for all declarations that follow it without a blank line. Functions
# defined in a header (static inline) need none.
#
# Then the test proves on planted headers that each rule can fail.

set -eu

top=${top_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}

# check_headers FILE...: prints what is wrong; fails if there is anything.
#
# It reads C as far as that is needed: it takes comments and strings out, and collects what stands
# outside of braces until a semicolon or a function's body.
check_headers () {
	awk '
	function wrong(line, what) {
		printf "%s:%d: %s\n", FILENAME, line, what
		bad = 1
	}

	function end_of_file() {
		if (file != "" && !has_file_comment)
			printf "%s: no comment says what the header is for\n", file
		if (file != "" && !has_file_comment)
			bad = 1
	}

	# Takes the comments and strings out of a line. Sets has_comment, in_comment; adds the text of
	# comments to comment.
	function strip(line,    code, at) {
		code = ""
		has_comment = in_comment
		while (line != "") {
			if (in_comment) {
				at = index(line, "*/")
				comment = comment " " (at ? substr(line, 1, at - 1) : line)
				if (!at)
					return code
				line = substr(line, at + 2)
				in_comment = 0
			} else if (match(line, /\/\*|\/\/|"([^"\\]|\\.)*"/)) {
				code = code substr(line, 1, RSTART - 1)
				at = substr(line, RSTART, 2)
				line = substr(line, RSTART + RLENGTH)
				if (at == "/*") {
					in_comment = has_comment = 1
				} else if (at == "//") {
					has_comment = 1
					comment = comment " " line
					return code
				}
			} else {
				return code line
			}
		}
		return code
	}

	# A comment with words of its own, besides those on licence and copyright.
	function says_something(text) {
		gsub(/SPDX-License-Identifier:[^\n]*GPL-[0-9.]*(-or-later|-only)?/, "", text)
		gsub(/Copyright[^*]*/, "", text)
		return text ~ /[A-Za-z]/
	}

	# Without the call of a macro at its beginning, as G_GNUC_PRINTF (1, 2) or G_STATIC_ASSERT (...).
	function after_macro(text,    at, depth, c) {
		if (!match(text, /^[A-Z][A-Z0-9_]* *\(/))
			return text
		at = RLENGTH
		for (depth = 1; depth && at < length(text); depth += (c == "(") - (c == ")"))
			c = substr(text, ++at, 1)
		text = substr(text, at + 1)
		sub(/^ */, "", text)
		return text
	}

	# A declaration is complete.
	function declared(text) {
		text = after_macro(text)
		if (text !~ /[A-Za-z0-9_] *\(/ || text ~ /^(typedef|_Static_assert|static_assert)/)
			return
		if (text ~ /^(struct|union|enum)[^()]*{/)
			return
		n_functions++
		if (!covered) {
			sub(/ *\(.*/, "", text)
			sub(/.*[^A-Za-z0-9_]/, "", text)
			wrong(start, "no comment above " text)
		}
	}

	function statement_done() {
		cover = covered ? FNR : 0
		statement = ""
	}

	function read_code(code,    i, c) {
		for (i = 1; i <= length(code); i++) {
			c = substr(code, i, 1)
			if (statement == "" && !braces) {
				if (c ~ /[ \t;]/)
					continue
				start = FNR
				covered = cover == FNR - 1 || cover == FNR
				parens = 0
			}
			if (c == "}" && --braces == 0 && is_body) {
				is_body = 0
				statement_done()
				continue
			}
			if (braces == 0 && c == ";" && parens == 0) {
				declared(statement)
				statement_done()
				continue
			}
			if (c == "{" && braces++ == 0)
				is_body = statement ~ /\)[^=]*$/ && statement !~ /^(typedef|struct|union|enum)/
			if (c == "(")
				parens++
			if (c == ")")
				parens--
			if (braces == 0 || (c == "{" && braces == 1))
				statement = statement c
		}
		if (statement != "" && !braces && !parens) {
			# A macro that stands for itself, as G_BEGIN_DECLS or G_DEFINE_...().
			if (after_macro(statement) == "" || statement ~ /^[A-Z0-9_]*_DECLS *$/)
				statement_done()
			else
				statement = statement " "
		}
	}

	FNR == 1 {
		end_of_file()
		file = FILENAME
		has_file_comment = seen_code = in_comment = in_directive = braces = is_body = cover = 0
		statement = comment = pending = ""
	}

	{
		code = strip($0)
		is_blank = code ~ /^[ \t]*$/
		is_directive = in_directive || code ~ /^[ \t]*#/
		in_directive = is_directive && code ~ /\\$/
	}

	# The comment of the file: the first one with words, before any declaration, and not one that
	# belongs to the declaration under it.
	!has_file_comment && !seen_code {
		if (pending != "" && (is_blank || is_directive) && !has_comment) {
			has_file_comment = 1
		} else if (has_comment && is_blank && !in_comment) {
			if (says_something(comment))
				pending = comment
			comment = ""
		} else if (!is_blank && !is_directive) {
			seen_code = 1
		}
	}

	is_blank && has_comment {
		if (statement == "" && !in_comment)
			cover = FNR
		next
	}
	is_blank { next }
	is_directive {
		# What does not separate a comment from what it is about, or members of a group.
		if (cover == FNR - 1 && code !~ /^[ \t]*#[ \t]*(include|pragma)/)
			cover = FNR
		next
	}
	{ read_code(code) }

	END {
		end_of_file()
		if (file == "") {
			print "no headers"
			bad = 1
		}
		exit bad
	}' "$@" </dev/null
}

# must_fail MESSAGE: the header on standard input is refused with MESSAGE.
must_fail () {
	cat >"$tmp/bad.h"
	if check_headers "$tmp/bad.h" >"$tmp/output"; then
		echo "FAIL: a planted header passes that should not: $1"
		cat "$tmp/bad.h"
		exit 1
	elif ! grep -qF "$1" "$tmp/output" || [ "$(wc -l <"$tmp/output")" -ne 1 ]; then
		echo "FAIL: a planted header should be refused with '$1' and nothing else, but:"
		cat "$tmp/output"
		exit 1
	fi
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cat >"$tmp/good.h" <<'END'
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Things; "quotes" and (parentheses in comments do not matter.
 *
 *     int example (void);
 */
#pragma once

#include <stdint.h>

#ifdef __clang__
#define ATTRIBUTE(x) \
  __attribute__ ((x))
#else
#define ATTRIBUTE(x)
#endif

typedef struct _Thing Thing;
typedef void (*ThingCallback) (Thing *thing, void *data);

typedef struct ATTRIBUTE (capability ("mutex")) _Lock
{
  int (*hook) (int value);
} Lock;

struct Range
{
  uint64_t offset; /* bytes */
  int (*compare) (int a, int b);
} __attribute__ ((packed));

extern const char *const thing_names[];

static inline void
thing_lock (Thing *thing)
{
  if (thing)
    {
      hook (thing);
    }
}

/* Makes one; "with // a string". */
Thing *thing_new (const char *name,
                  int flags)
  __attribute__ ((nonnull (1)));
void thing_free (Thing *thing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Thing, thing_free)
#ifdef FLEECE_PAUSE_POINTS
void thing_pause (Thing *thing);
#endif

// One line.
G_GNUC_WARN_UNUSED_RESULT
int thing_size (const Thing *thing) ATTRIBUTE (pure);

G_STATIC_ASSERT (sizeof (int) == 4);
_Static_assert (sizeof (int) == 4, "int");
END
if ! check_headers "$tmp/good.h"; then
	echo 'FAIL: a planted good header does not pass'
	exit 1
fi

must_fail 'bad.h:5: no comment above thing_new' <<'END'
/* Things. */
#pragma once
#include <stdint.h>

Thing *thing_new (const char *name);
END

must_fail 'bad.h:6: no comment above thing_free' <<'END'
/* Things. */

/* Makes one. */
Thing *thing_new (const char *name);	/* a comment beside is about this line */

void thing_free (Thing *thing);
END

must_fail 'bad.h:5: no comment above thing_new' <<'END'
/* Things. */

/* A blank line parts a comment from what is under it. */

Thing *thing_new (const char *name,
                  int flags);
END

must_fail 'bad.h:7: no comment above thing_free' <<'END'
/* Things. */

static inline int thing_size (Thing *thing)
{
  return 1;
}
extern void thing_free (Thing *thing);
END

must_fail 'bad.h:6: no comment above thing_wait' <<'END'
/* Things. */
#pragma once
/* Of types. */
typedef struct _Thing Thing;

int thing_wait (Thing *thing) ATTRIBUTE (pure);
END

must_fail 'bad.h:4: no comment above thing_new' <<'END'
/* Things. */
#pragma once
#include <stdint.h>
G_GNUC_PRINTF (1, 2) Thing *thing_new (const char *format, ...);
END

must_fail 'no comment says what the header is for' <<'END'
/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Makes one. */
Thing *thing_new (const char *name);
END

must_fail 'no comment says what the header is for' <<'END'
#pragma once

typedef struct _Thing Thing;

/* Comes too late. */

/* Makes one. */
Thing *thing_new (const char *name);
END

if check_headers "$top"/nothing/*.h 2>"$tmp/output"; then
	echo 'FAIL: no headers at all pass'
	exit 1
fi

check_headers "$top"/fleecefs/*/*.h
echo 'the headers are commented'
