/* SPDX-License-Identifier: MIT */
/* Writes moments as text, in UTC, and counts milliseconds. No state; any thread. */
#ifndef JSONL_STAMP_H
#define JSONL_STAMP_H

#include <stdint.h>
#include <time.h>

#define JSONL_STAMP 40 /* bytes, with the NUL */

/* Writes the form for names of files: 20261120T101112.123456789Z, which sort by time. */
void jsonl_stamp_name(const struct timespec *at, char buf[JSONL_STAMP]);
/* Writes the form for people and reports: 2026-11-20T10:11:12Z, with `digits` (0 to 9)
 * digits of a second. */
void jsonl_stamp_text(const struct timespec *at, int digits, char buf[JSONL_STAMP]);

/* Write the present moment. */
void jsonl_stamp_name_now(char buf[JSONL_STAMP]);
void jsonl_stamp_text_now(int digits, char buf[JSONL_STAMP]);

/* Returns milliseconds of CLOCK_MONOTONIC, for deadlines. */
int64_t jsonl_now_ms(void);

#endif
