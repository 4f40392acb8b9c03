/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model of fleecefs's copy-before-write protocol, for spin.
 *
 * Processes: writers (guest writes to the live disks), readers (reads of
 * frozen snapshots), one mkdir that makes SNAPSHOTS snapshots one after
 * another and, with MERGE, rmdir and the background merge that takes dead
 * layers out of the chain.  Each statement is one step, and so is each d_step
 * or atomic block: what the engine does under a disk's lock, or what nobody
 * could tell from that.  spin tries every order of the processes' steps.
 *
 * A chain is a row of layers, index 0 the oldest, behind the newest the
 * source.  A layer has a set of saved granules and a value for each.  Layers
 * are numbered as they are made, so a chain is always in index order, and a
 * layer that left it has no saved granules and is looked through.
 *
 * What the processes assert:
 *   - a snapshot read returns the value of the snapshot's instant (promise 1);
 *   - so would the store, found after a crash at any source write or merge
 *     step, with nothing but what was persisted by then;
 *   - with TWO_DISKS, the writes in a snapshot are closed under "ended
 *     before": they include each write that ended before mkdir began, and each
 *     that ended before another write in the snapshot began, on whichever disk
 *     (promise 8).  A write that begins after mkdir returned cannot be in it,
 *     as reads return the value of an instant before that.
 * spin adds that nobody is stuck: every process reaches its end.  Only readers
 * loop, and they may stop whenever they are idle.
 *
 * Left out: failures and broken snapshots, resize, granules of which a write
 * covers only a part (reading the rest is a read of the source under claim).
 *
 * Configurations:
 *   (none)      one disk
 *   MERGE       one disk, with rmdir and merge
 *   TWO_DISKS   two disks of one granule each: granule g is disk g
 * and, by the macros just below, how many there are of everything.
 *
 * Mutations, each a bug that must be found:
 *   NO_WAIT                  the writer does not wait for frozen reads
 *   WAIT_BEFORE_PUBLISH      it waits, and only then publishes
 *   PUBLISH_BEFORE_PERSIST   it publishes copies that a crash would lose
 *   STALE_CHAIN              the reader notes the chain's end before its lookup
 *   NO_DRAIN                 mkdir does not wait for the writes in flight
 *   SPLIT_FREEZE             TWO_DISKS: the barrier opens between two disks
 *   MERGE_NO_DRAIN           MERGE: merge does not wait for writes in flight
 *   KEEP_RECEIVER            MERGE: copies still go to a layer being emptied
 *   SAVED_IN_NEWEST          MERGE: a writer looks for saved granules in the
 *                            newest layer only
 *   NO_PIN                   MERGE: a layer's space is given back under a read
 */

#ifndef GRANULES
#define GRANULES 2		/* 1 or 2 */
#endif
#define LAYERS   3		/* room; SNAPSHOTS of them are used */
#ifndef SNAPSHOTS
#define SNAPSHOTS 2
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef WRITES
#define WRITES 2		/* by each writer */
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef RMDIRS
#define RMDIRS 1
#endif

#ifdef TWO_DISKS
#define DISKS 2
#define DISK(range) ((range) >> 1)
#else
#define DISKS 1
#define DISK(range) 0
#endif

#define NONE 255		/* no layer */
#define JUNK 0			/* no value: read only by mistake */
#define OLD  1			/* what the disks hold at first */

#define BIT(i)   (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)
#define AT(i, g) ((i) * GRANULES + (g))

/* Sets of granules, layers, snapshots and writes are bit masks. */

byte src[GRANULES] = OLD;
byte value[LAYERS * GRANULES];	/* what a layer holds */
byte saved[LAYERS];		/* granules published as saved in it */
byte kept[LAYERS];		/* granules of it that a crash would not lose */

byte receiver[DISKS];		/* the layer that receives copies */
byte newest[DISKS] = NONE;	/* the newest live snapshot's layer */
byte layer_of[SNAPSHOTS];
byte live;			/* snapshots that can be read */
byte n_layers;

bool closed;			/* the freeze barrier */
byte inside;			/* writers in the section */
byte claimed;			/* granules being copied */
byte frozen_reads[GRANULES];

#ifdef MERGE
byte chain;			/* layers in the chain */
byte dead;			/* those of them that no live snapshot has */
byte reads[SNAPSHOTS];		/* reads in flight, by snapshot */
byte pins[LAYERS];		/* and by the layer they are at */
bool rmdir_done;
#endif

/* Ghosts: not in the engine, only for the assertions. */
byte image[SNAPSHOTS * GRANULES];	/* a snapshot's values at its instant */
#ifdef TWO_DISKS
byte applied[DISKS];		/* writes that reached the source */
byte ended;			/* writes that ended */
byte before[WRITERS * WRITES];	/* writes that had ended when this one began */
#endif

/* Each write has a number, and writes a value of its own. */
#define WRITE_ID (_pid * WRITES + n)	/* in writer (): these have pids from 0 */
#define MY_VALUE (OLD + 1 + WRITE_ID)
#define MY_DISK  DISK (range)

#define add(set, other) set = set | (other)
#define del(set, other) set = set & ~(other)

hidden byte at, i, j, k;	/* scratch, each use inside one d_step */

/*
 * The granules of RANGE that a writer must save.  A dead layer behind the
 * newest live snapshot's is read through, so what it has is saved as well.
 */
#ifdef SAVED_IN_NEWEST
#define COUNTS(l, d) ((l) == receiver[d] -> saved[l] : 0)
#else
#define COUNTS(l, d) ((l) >= newest[d] -> saved[l] : 0)
#endif
#define UNSAVED(range, d) (newest[d] == NONE -> 0 : \
	((range) & ~(COUNTS (0, d) | COUNTS (1, d) | COUNTS (2, d))))

/* OUT = the oldest layer i from FIRST to before END of which CONDITION holds. */
inline lookup (first, end, condition, out)
{
	out = NONE;
	i = first;
	do
	:: i < end && out == NONE ->
		if
		:: condition -> out = i
		:: else
		fi;
		i++
	:: else -> break
	od
}

/* After a crash now each live snapshot would read as it should. */
inline check_store ()
{
	for (k : 0 .. SNAPSHOTS - 1) {
		for (j : 0 .. GRANULES - 1) {
			if
			:: HAS (live, k) ->
				lookup (layer_of[k], LAYERS, HAS (kept[i], j), at);
				assert (image[AT (k, j)] ==
					(at == NONE -> src[j] : value[AT (at, j)]))
			:: else
			fi
		}
	}
}

/* ---- guest writes ------------------------------------------------------- */

inline wait_for_frozen_reads ()
{
	(!HAS (range, 0) || frozen_reads[0] == 0) &&
	(!HAS (range, GRANULES - 1) || frozen_reads[GRANULES - 1] == 0)
}

inline persist ()
{
	add (kept[receiver[MY_DISK]], mine)
}

inline publish ()
{
	d_step {
		add (saved[receiver[MY_DISK]], mine);
		del (claimed, mine);
#ifdef MERGE
		assert (HAS (chain, receiver[0]));
#endif
		skip
	}
}

inline write_source (g)
{
	if
	:: HAS (range, g) ->
		d_step {
			src[g] = MY_VALUE;
#ifdef TWO_DISKS
			add (applied[g], BIT (WRITE_ID));
#endif
			check_store ();
			skip
		}
	:: else
	fi
}

active [WRITERS] proctype writer ()
{
	byte n;			/* writes done */
	byte range;		/* granules of the write at hand */
	byte mine;		/* those of them that it has claimed */
	byte buffer[GRANULES];

	do
	:: n < WRITES ->
#ifdef TWO_DISKS
		before[WRITE_ID] = ended;
#endif
		/* 1: enter the section. */
		atomic {
			!closed -> inside++;
			if
			:: range = BIT (0)
#if GRANULES == 2
			:: range = BIT (1)
#ifndef TWO_DISKS
			:: range = BIT (0) | BIT (1)
#endif
#endif
			fi
		}

		/*
		 * 2: claim what is neither saved nor claimed.  If there is no
		 * such granule but an unsaved one, both guards are false: the
		 * writer waits, and holds no claim while it does.
		 */
		do
		:: atomic {
				(UNSAVED (range, MY_DISK) & ~claimed) ->
				mine = UNSAVED (range, MY_DISK) & ~claimed;
				add (claimed, mine)
			}

			/* 3: copy. */
			d_step {
				for (j : 0 .. GRANULES - 1) {
					buffer[j] = (HAS (mine, j) -> src[j] : JUNK)
				}
				skip
			}
			d_step {
				for (j : 0 .. GRANULES - 1) {
					if
					:: HAS (mine, j) ->
						value[AT (receiver[MY_DISK], j)] = buffer[j];
						buffer[j] = JUNK
					:: else
					fi
				}
				skip
			}

			/* 4: publish. */
#ifdef PUBLISH_BEFORE_PERSIST
			publish ();
			persist ();
#else
			persist ();
#ifdef WAIT_BEFORE_PUBLISH
			wait_for_frozen_reads ();
#endif
			publish ();
#endif
			mine = 0
		:: UNSAVED (range, MY_DISK) == 0 -> break
		od;

		/* 5: no new frozen read can start; let the old ones end. */
#if !defined (NO_WAIT) && !defined (WAIT_BEFORE_PUBLISH)
		wait_for_frozen_reads ();
#endif

		/* 6: write the source, leave the section. */
		write_source (0);
#if GRANULES == 2
		write_source (1);
#endif
		d_step {
			inside--;
#ifdef TWO_DISKS
		}
		d_step {
			add (ended, BIT (WRITE_ID));
#endif
			range = 0;
			n++
		}
	:: else -> break
	od
}

/* ---- snapshot reads ----------------------------------------------------- */

/*
 * A snapshot file that is open but not being read adds nothing here: it only
 * puts off the moment that die () below stands for.
 */
active [READERS] proctype reader ()
{
	byte s;			/* snapshot */
	byte g;			/* granule */
	byte where;		/* layer, NONE for the source */
	byte end;

	do
	:: atomic {
			if
			:: HAS (live, 0) -> s = 0
#if SNAPSHOTS > 1
			:: HAS (live, 1) -> s = 1
#endif
#if SNAPSHOTS > 2
			:: HAS (live, 2) -> s = 2
#endif
			fi;
			if
			:: g = 0
			:: g = GRANULES - 1
			fi;
			end = n_layers;
#ifdef STALE_CHAIN
		}
		atomic {
#endif
			d_step {
				lookup (layer_of[s], end, HAS (saved[i], g), where);
				end = 0;
#ifdef MERGE
				reads[s]++;
#endif
				if
				:: where == NONE -> frozen_reads[g]++
				:: else ->
#ifdef MERGE
					pins[where]++
#endif
				fi
			}
		}

		/*
		 * Reads and unregisters at once: to stay registered for longer
		 * could only make writers wait for a step that nothing blocks.
		 */
		d_step {
			assert (image[AT (s, g)] ==
				(where == NONE -> src[g] : value[AT (where, g)]));
			if
			:: where == NONE -> frozen_reads[g]--
			:: else ->
#ifdef MERGE
				pins[where]--
#endif
			fi;
#ifdef MERGE
			reads[s]--;
#endif
			s = 0;
			g = 0;
			where = 0
		}
	:: break
	od
}

/* ---- mkdir -------------------------------------------------------------- */

inline close_barrier ()
{
	atomic { !closed -> closed = true }
}

inline switch (d)
{
	receiver[d] = s;
	newest[d] = s;
#ifdef TWO_DISKS
	image[AT (s, d)] = src[d];
	add (cut, applied[d])
#else
	for (j : 0 .. GRANULES - 1) {
		image[AT (s, j)] = src[j]
	}
#endif
}

active proctype mkdir ()
{
	byte s;			/* the new snapshot, and its layer */
#ifdef TWO_DISKS
	byte past;		/* writes that ended before mkdir began */
	byte cut;		/* writes in the snapshot */
#endif

	do
	:: s < SNAPSHOTS ->
#ifdef TWO_DISKS
		past = ended;
#endif
		close_barrier ();
#ifndef NO_DRAIN
		inside == 0;
#endif
#ifdef TWO_DISKS
		d_step { switch (1) }
#ifdef SPLIT_FREEZE
		closed = false;
		close_barrier ();
		inside == 0;
#endif
#endif
		d_step {
			switch (0);
			layer_of[s] = s;
			n_layers = s + 1;
			add (live, BIT (s));
#ifdef MERGE
			add (chain, BIT (s));
#endif
			closed = false;
#ifdef TWO_DISKS
		}
		d_step {
			assert ((past & ~cut) == 0);
			for (j : 0 .. WRITERS * WRITES - 1) {
				assert (!HAS (cut, j) || (before[j] & ~cut) == 0)
			}
			past = 0;
			cut = 0;
#endif
			s++
		}
	:: else -> break
	od
}

/* ---- rmdir and merge ---------------------------------------------------- */

#ifdef MERGE

#define forget(array, i) \
	array[AT (i, 0)] = JUNK; \
	array[AT (i, GRANULES - 1)] = JUNK

/* After a change of LIVE or LAYER_OF. */
inline find_newest ()
{
	newest[0] = NONE;
	for (k : 0 .. SNAPSHOTS - 1) {
		if
		:: HAS (live, k) -> newest[0] = layer_of[k]
		:: else
		fi
	}
}

/*
 * The moment a snapshot dies: rmdir, or the last close if that is later.
 * Nobody is kept out: a writer in flight may still save for the dead one.
 */
inline die (s)
{
	d_step {
		HAS (live, s) && reads[s] == 0 ->
		del (live, BIT (s));
		add (dead, BIT (layer_of[s]));
		layer_of[s] = 0;
		find_newest ();
		forget (image, s)
	}
}

active proctype rmdir ()
{
	byte n;

	do
	:: n < RMDIRS ->
		if
		:: die (0)
#if SNAPSHOTS > 1
		:: die (1)
#endif
#if SNAPSHOTS > 2
		:: die (2)
#endif
		fi;
		n++
	:: else -> break
	od;
	rmdir_done = true
}

inline merge_granule (g)
{
	if
	:: from != into && HAS (saved[from], g) &&
	   (into == m || !HAS (saved[into], g)) ->
		d_step {
			value[AT (into, g)] = value[AT (from, g)];
			add (kept[into], BIT (g));
			check_store ();
			skip
		}
		add (saved[into], BIT (g))
	:: else
	fi
}

/*
 * Takes dead layers out of the chain.  M is dead, A its older neighbour.
 * Either M's granules that A lacks are copied to A, or all of A's to M, which
 * then takes A's place; a reader of A finds A's first, so they replace M's.
 * If M is the receiver, the layer that stays takes that over, and no writer may
 * be in the section then: it may have looked for saved granules while M was
 * alive, in M but not in A, and it may be about to copy to M.
 */
active proctype merge ()
{
	byte m, a, from, into;

	do
	:: dead != 0 ->
		close_barrier ();
#ifndef MERGE_NO_DRAIN
		inside == 0;
#endif
		atomic {
			if
			:: HAS (dead, 0) -> m = 0
#if SNAPSHOTS > 1
			:: HAS (dead, 1) -> m = 1
#endif
#if SNAPSHOTS > 2
			:: HAS (dead, 2) -> m = 2
#endif
			fi;
			d_step {
				a = NONE;
				for (j : 0 .. LAYERS - 1) {
					if
					:: j < m && HAS (chain, j) -> a = j
					:: else
					fi
				}
				skip
			}
			if
			:: a == NONE -> from = m; into = m	/* dropped */
			:: a != NONE -> from = m; into = a
			:: a != NONE -> from = a; into = m
			fi;
#ifndef KEEP_RECEIVER
			if
			:: receiver[0] == m -> receiver[0] = into
			:: else
			fi;
#endif
			closed = false
		}

		merge_granule (0);
#if GRANULES == 2
		merge_granule (1);
#endif

		d_step {
			saved[from] = 0;
			kept[from] = 0;
			del (chain, BIT (from));
			for (j : 0 .. SNAPSHOTS - 1) {
				if
				:: HAS (live, j) && layer_of[j] == from ->
					layer_of[j] = into
				:: else
				fi
			}
			/* M stays dead if it takes the place of a dead A. */
			if
			:: from == a && HAS (dead, a) -> del (dead, BIT (a))
			:: else -> del (dead, BIT (m))
			fi;
			find_newest ();
			check_store ();
			skip
		}
#ifndef NO_PIN
		pins[from] == 0;
#endif
		d_step {
			forget (value, from);
			m = 0;
			a = 0;
			from = 0;
			into = 0
		}
	:: dead == 0 && rmdir_done -> break
	od
}

#endif
