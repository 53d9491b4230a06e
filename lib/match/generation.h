/* SPDX-License-Identifier: MIT */
/* The names that rotations and backups give to a file: its own name and one or more of
 * these endings. ABNF of RFC 5234, but letters exactly as they stand; the names in
 * capitals have the ranges of a calendar (month 01-12, day 01-31, hour 00-23, minute
 * 00-59, second 00-60):
 *
 *   generation = live-name 1*ending
 *   ending     = "." counter / "." stamp / "-" stamp / ".bak-" stamp
 *              / ".old" / ".orig" / ".save" / ".bak" / "~"
 *   counter    = 1*10DIGIT
 *   stamp      = epoch / date / date ( "T" / "_" / "-" ) time [ zone ]
 *              / compact basic [ zone ]
 *   epoch      = 10DIGIT                                 ; seconds since 1970
 *   date       = compact / 4DIGIT "-" MONTH "-" DAY
 *   compact    = 4DIGIT MONTH DAY
 *   time       = basic / HOUR ":" MINUTE [ ":" SECOND [ fraction ] ]
 *              / HOUR "-" MINUTE [ "-" SECOND [ fraction ] ]
 *   basic      = HOUR [ MINUTE [ SECOND [ fraction ] ] ]
 *   fraction   = ( "." / "," ) 1*9DIGIT
 *   zone       = "Z" / ( "+" / "-" ) HOUR [ ":" ] MINUTE ; only behind a MINUTE
 *
 * A generation is a backup when one of its endings is: they are those that editors and
 * programs give to the old version of what they write anew.
 *
 *   backup     = ".bak-" stamp / ".old" / ".orig" / ".save" / ".bak" / "~"
 *
 * So x.jsonl.1, x.jsonl-20261120.old and x.jsonl.2026-11-20T10:11:12.5Z are generations
 * of x.jsonl; x.jsonl.1.gz, x.jsonl.tmp and x.jsonl. are not. No state, no allocation,
 * any thread. */
#ifndef JSONL_GENERATION_H
#define JSONL_GENERATION_H

#include <stdbool.h>
#include <stddef.h>

/* Returns true when s[0..len) is one or more endings. */
bool jsonl_generation_suffix(const char *s, size_t len);
/* Returns true when s[0..len), one or more endings, makes a backup. */
bool jsonl_generation_is_backup(const char *s, size_t len);
/* Returns true when these names are of one rotation chain: they differ in one counter or
 * one stamp alone (w1.jsonl, w2.jsonl), or `from` has none where `to` has one (w.jsonl,
 * w.1.jsonl). The counter may follow a letter. It does not matter which number is larger.
 */
bool jsonl_generation_chain(const char *from, const char *to);
/* Calls live() with the length of each stem that one or more endings follow in
 * name[0..len), the longest first, until it returns true. Returns that, or false. */
bool jsonl_generation_stems(const char *name, size_t len,
			    bool (*live)(void *ctx, size_t stem), void *ctx);

#endif
