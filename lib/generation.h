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
 * So x.jsonl.1, x.jsonl-20261120.old and x.jsonl.2026-11-20T10:11:12.5Z are generations
 * of x.jsonl; x.jsonl.1.gz, x.jsonl.tmp and x.jsonl. are not. No state, no allocation,
 * any thread. */
#ifndef JSONL_GENERATION_H
#define JSONL_GENERATION_H

#include <stdbool.h>
#include <stddef.h>

/* Is s[0..len) one or more endings? */
bool jsonl_generation_suffix(const char *s, size_t len);
/* Calls live() with the length of each stem that one or more endings follow in
 * name[0..len), the longest first, until it answers true. That answer, or false. */
bool jsonl_generation_stems(const char *name, size_t len,
			    bool (*live)(void *ctx, size_t stem), void *ctx);

#endif
