/* SPDX-License-Identifier: MIT */
/* A program that keeps a log, reads it again and remembers how far it came:
 *
 *     cc example.c $(pkg-config --cflags --libs libjsonl) -o example
 *     ./example LOG STATE
 */
#include <jsonl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int complain(const char *path, int code)
{
	(void)fprintf(stderr, "%s: %s\n", path, jsonl_message(code));
	return 1;
}

/* Counts the records, and names lines that are no records. */
static int count(const char *path, unsigned long *records)
{
	struct jsonl_records *it;
	struct jsonl_record rec;
	int rc = jsonl_records_open(path, &it);

	*records = 0;
	while (rc >= 0) {
		rc = jsonl_records_next(it, &rec);
		if (rc < 0 || !rec.data)
			break;
		if (rc == 0)
			++*records;
		else
			(void)printf("line %llu: %s\n", (unsigned long long)rec.line,
				     jsonl_message(rc));
	}
	if (rc == 0)
		jsonl_records_close(it);
	return rc;
}

int main(int argc, char **argv)
{
	static const char record[] = "{\"event\":\"hello\"}";
	struct jsonl_log *log;
	unsigned long records;
	char *state, text[64];
	int rc;

	if (argc != 3)
		return 2;
	/* Appends a record, whole, which is on the disk when jsonl_sync returns 0. */
	rc = jsonl_open(argv[1], 0666, &log);
	if (rc)
		return complain(argv[1], rc);
	rc = jsonl_append(log, record, strlen(record));
	if (!rc)
		rc = jsonl_sync(log);
	jsonl_close(log);
	if (!rc)
		rc = count(argv[1], &records);
	if (rc)
		return complain(argv[1], rc);

	/* Reads what was remembered; a damaged file is moved aside, which is no reason
	 * to fail. */
	rc = jsonl_load(argv[2], "{\"records\":0}", &state, NULL, NULL);
	if (rc < 0)
		return complain(argv[2], rc);
	(void)printf("before: %s\n", state);
	free(state);
	(void)snprintf(text, sizeof(text), "{\"records\":%lu}\n", records);
	rc = jsonl_replace_file(argv[2], text, strlen(text), 0666);
	if (rc)
		return complain(argv[2], rc);
	(void)printf("now: %s", text);
	return 0;
}
