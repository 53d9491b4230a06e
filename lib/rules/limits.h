/* SPDX-License-Identifier: MIT */
/* Says which records a log accepts. Constant once the configuration is read; any thread.
 */
#ifndef JSONL_LIMITS_H
#define JSONL_LIMITS_H

#include <stdint.h>

enum jsonl_oversize { JSONL_OVERSIZE_WARN, JSONL_OVERSIZE_REJECT, JSONL_OVERSIZE_ALLOW };
enum jsonl_blank { JSONL_BLANK_DROP, JSONL_BLANK_KEEP };
enum jsonl_value { JSONL_VALUE_ANY, JSONL_VALUE_CONTAINER, JSONL_VALUE_OBJECT };

struct jsonl_limits {
	unsigned maxdepth;  /* nested objects and arrays */
	uint64_t maxrecord; /* bytes, newline counted */
	uint64_t
	    longest; /* that the file system below takes at once; as maxrecord; 0: any */
	uint64_t pipebuf; /* bytes, newline counted */
	int value;	  /* enum jsonl_value */
	int blank;	  /* enum jsonl_blank */
	int oversize;	  /* enum jsonl_oversize */
};

#endif
