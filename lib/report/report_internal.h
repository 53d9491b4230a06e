/* SPDX-License-Identifier: MIT */
/* Shares json-c between the two files of the report. */
#ifndef JSONL_REPORT_INTERNAL_H
#define JSONL_REPORT_INTERNAL_H

#include <stddef.h>

struct json_object;

/* Parses text that jsonl_text_check has accepted: json-c alone accepts more than JSON,
 * and its version 0.18, told to be strict, refuses valid UTF-8. Returns NULL when memory
 * ran out; else to be released by json_object_put. */
struct json_object *jsonl_report_parse_valid(const char *text, size_t len);

#endif
