/* SPDX-License-Identifier: MIT */
/* How fast one core validates records of about 600 bytes, against json-c parsing the same
 * lines. The records are made up but of the shapes that audit logs have: many short keys,
 * times, identifiers, numbers, one or two longer strings; written compactly as by
 * JavaScript and jq -c, or with a space after colon and comma as by Python; some with
 * escapes and characters beyond ASCII. Rounds take turns, medians are shown.
 *
 *   bench_text [--json] [--rounds N] */
#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json/text.h"

#define RECORDS	   4000
#define ROUNDS_MAX 101

struct corpus {
	const char *name;
	char *bytes;
	size_t len;
	size_t at[RECORDS + 1]; /* where lines begin; each without a newline */
};

/* ---- making records ---- */

struct maker {
	FILE *to;
	uint64_t seed;
	const char *comma, *colon;
	unsigned foreign; /* percent of strings with escapes or beyond ASCII */
};

static unsigned chance(struct maker *m, unsigned below)
{
	m->seed = m->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(m->seed >> 33) % below;
}

static const char *word(struct maker *m)
{
	static const char *const words[] = {
	    "read",   "alice",	  "bob",	 "vault",   "session", "ok",
	    "memory", "denied",	  "tool_call",	 "search",  "report",  "payment",
	    "open",   "internal", "project-x",	 "eu-west", "service", "authorization",
	    "a",      "file",	  "annotations", "user",    "weekly",  "configuration",
	};

	return words[chance(m, sizeof(words) / sizeof(words[0]))];
}

static void put_key(struct maker *m, const char *key, bool first)
{
	fprintf(m->to, "%s\"%s\"%s", first ? "" : m->comma, key, m->colon);
}

static void put_words(struct maker *m, unsigned least, unsigned most)
{
	static const char *const foreign[] = {
	    "Zürich",	    "\\\"quoted\\\"", "naïve",		 "C:\\\\tmp\\\\x",
	    "line\\nbreak", "日本語",	      "\\u00e9t\\u00e9", "→"};
	unsigned n = least + chance(m, most - least + 1);

	fputc('"', m->to);
	for (unsigned i = 0; i < n; i++) {
		if (chance(m, 100) < m->foreign)
			fprintf(m->to, "%s%s", i ? " " : "", foreign[chance(m, 8)]);
		else
			fprintf(m->to, "%s%s", i ? " " : "", word(m));
	}
	fputc('"', m->to);
}

static void put_time(struct maker *m)
{
	fprintf(m->to, "\"2026-11-%02uT%02u:%02u:%02u.%06uZ\"", 1 + chance(m, 30),
		chance(m, 24), chance(m, 60), chance(m, 60), chance(m, 1000000));
}

static void put_hex(struct maker *m, unsigned n)
{
	fputc('"', m->to);
	while (n--)
		fputc("0123456789abcdef"[chance(m, 16)], m -> to);
	fputc('"', m->to);
}

static void put_user(struct maker *m)
{
	put_key(m, "user", false);
	fputc('{', m->to);
	put_key(m, "id", true);
	fprintf(m->to, "%u", chance(m, 100000));
	put_key(m, "name", false);
	put_words(m, 1, 2);
	put_key(m, "email", false);
	fprintf(m->to, "\"%s.%s@example.org\"", word(m), word(m));
	put_key(m, "admin", false);
	fputs(chance(m, 5) ? "false" : "true", m->to);
	fputc('}', m->to);
}

static void put_request(struct maker *m)
{
	put_key(m, "request", false);
	fputc('{', m->to);
	put_key(m, "method", true);
	fprintf(m->to, "\"%s\"", chance(m, 3) ? "GET" : "POST");
	put_key(m, "path", false);
	fprintf(m->to, "\"/api/v1/%s/%u\"", word(m), chance(m, 10000));
	put_key(m, "ip", false);
	fprintf(m->to, "\"10.%u.%u.%u\"", chance(m, 256), chance(m, 256), chance(m, 256));
	put_key(m, "agent", false);
	fputs("\"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\"", m->to);
	put_key(m, "status", false);
	fprintf(m->to, "%u", 200 + chance(m, 300));
	put_key(m, "bytes", false);
	fprintf(m->to, "%u", chance(m, 1000000));
	fputc('}', m->to);
}

static void put_details(struct maker *m)
{
	put_key(m, "tags", false);
	fputc('[', m->to);
	for (unsigned i = 0, n = chance(m, 4); i < n; i++)
		fprintf(m->to, "%s\"%s\"", i ? m->comma : "", word(m));
	fputc(']', m->to);
	put_key(m, "scores", false);
	fputc('[', m->to);
	for (unsigned i = 0, n = chance(m, 5); i < n; i++)
		fprintf(m->to, "%s%.3f", i ? m->comma : "",
			chance(m, 2000) / 1000.0 - 0.5);
	fputc(']', m->to);
	put_key(m, "parent", false);
	if (chance(m, 3))
		fputs("null", m->to);
	else
		put_hex(m, 16);
}

static void put_record(struct maker *m)
{
	fputc('{', m->to);
	put_key(m, "ts", true);
	put_time(m);
	put_key(m, "seq", false);
	fprintf(m->to, "%u", chance(m, 10000000));
	put_key(m, "level", false);
	fputs(chance(m, 4) ? "\"info\"" : "\"warning\"", m->to);
	put_key(m, "event", false);
	fprintf(m->to, "\"%s.%s\"", word(m), word(m));
	put_key(m, "id", false);
	put_hex(m, 32);
	if (chance(m, 4))
		put_user(m);
	if (chance(m, 3))
		put_request(m);
	put_details(m);
	put_key(m, "elapsed_ms", false);
	fprintf(m->to, "%.2f", chance(m, 1000000) / 100.0);
	put_key(m, "message", false);
	put_words(m, 8, 20);
	put_key(m, "ok", false);
	fputs(chance(m, 8) ? "true" : "false", m->to);
	fputc('}', m->to);
}

static void corpus_make(struct corpus *c, const char *name, bool spaces, unsigned foreign)
{
	struct maker m = {.seed = 1, .foreign = foreign};

	m.comma = spaces ? ", " : ",";
	m.colon = spaces ? ": " : ":";
	c->name = name;
	m.to = open_memstream(&c->bytes, &c->len);
	if (!m.to)
		abort();
	for (size_t i = 0; i < RECORDS; i++) {
		fflush(m.to);
		c->at[i] = (size_t)ftell(m.to);
		put_record(&m);
	}
	fclose(m.to);
	c->at[RECORDS] = c->len;
}

/* ---- measuring ---- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void refused(const struct corpus *c, size_t i)
{
	fprintf(stderr, "not accepted: %.*s\n", (int)(c->at[i + 1] - c->at[i]),
		c->bytes + c->at[i]);
	exit(1);
}

static void run_vector(const struct corpus *c)
{
	struct jsonl_text out;

	for (size_t i = 0; i < RECORDS; i++) {
		if (jsonl_text_check(c->bytes + c->at[i], c->at[i + 1] - c->at[i], 128,
				     &out))
			refused(c, i);
	}
}

static void run_portable(const struct corpus *c)
{
	struct jsonl_text out;

	for (size_t i = 0; i < RECORDS; i++) {
		if (jsonl_text_check_portable(c->bytes + c->at[i],
					      c->at[i + 1] - c->at[i], 128, &out))
			refused(c, i);
	}
}

/* Neither strict nor checking UTF-8, which it does slowly and which makes some of its
 * versions refuse every character beyond ASCII: in its favour. */
static void run_jsonc(const struct corpus *c)
{
	struct json_tokener *tok = json_tokener_new_ex(128);

	for (size_t i = 0; i < RECORDS; i++) {
		struct json_object *o = json_tokener_parse_ex(
		    tok, c->bytes + c->at[i], (int)(c->at[i + 1] - c->at[i]));

		if (!o)
			refused(c, i);
		json_object_put(o);
		json_tokener_reset(tok);
	}
	json_tokener_free(tok);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct contender {
	const char *name;
	void (*run)(const struct corpus *c);
	double times[ROUNDS_MAX];
};

static void measure(const struct corpus *c, unsigned rounds, bool json, bool last)
{
	struct contender all[] = {
	    {.name = "vector", .run = run_vector},
	    {.name = "portable", .run = run_portable},
	    {.name = "json_c", .run = run_jsonc},
	};
	double rate[3];

	for (unsigned r = 0; r < rounds; r++) {
		for (size_t k = 0; k < 3; k++) {
			double start = now();

			for (int again = 0; again < (k == 2 ? 1 : 10); again++)
				all[k].run(c);
			all[k].times[r] = (now() - start) / (k == 2 ? 1 : 10);
		}
	}
	for (size_t k = 0; k < 3; k++) {
		qsort(all[k].times, rounds, sizeof(double), by_value);
		rate[k] = (double)c->len / all[k].times[rounds / 2] / 1e9;
	}
	if (json)
		printf("  {\"corpus\": \"%s\", \"record_bytes\": %zu, \"vector_gb_s\": "
		       "%.3f, "
		       "\"portable_gb_s\": %.3f, \"json_c_gb_s\": %.4f, "
		       "\"vector_over_json_c\": %.2f}%s\n",
		       c->name, c->len / RECORDS, rate[0], rate[1], rate[2],
		       rate[0] / rate[2], last ? "" : ",");
	else
		printf("%-10s %6zu B   %6.2f GB/s   %6.2f GB/s   %7.3f GB/s   %5.1f x\n",
		       c->name, c->len / RECORDS, rate[0], rate[1], rate[2],
		       rate[0] / rate[2]);
}

int main(int argc, char **argv)
{
	static struct corpus corpora[3];
	unsigned rounds = 5;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
			rounds = (unsigned)strtoul(argv[++i], NULL, 10);
		} else {
			fprintf(stderr, "usage: bench_text [--json] [--rounds N]\n");
			return 16;
		}
	}
	if (rounds < 1 || rounds > ROUNDS_MAX)
		rounds = 5;
	corpus_make(&corpora[0], "compact", false, 0);
	corpus_make(&corpora[1], "spaced", true, 0);
	corpus_make(&corpora[2], "foreign", true, 5);
	if (json)
		printf("[\n");
	else
		printf("records     size         vector       portable          json-c   "
		       "ratio\n");
	for (size_t i = 0; i < 3; i++)
		measure(&corpora[i], rounds, json, i == 2);
	if (json)
		printf("]\n");
	for (size_t i = 0; i < 3; i++)
		free(corpora[i].bytes);
	return 0;
}
