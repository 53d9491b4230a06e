/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target without libFuzzer: a fixed number of inputs of a fixed generator,
 * some of them spliced from earlier ones. For compilers that have no libFuzzer, and as
 * the short slice of every test run. Arguments: how many inputs (default 20,000), the
 * seed; or files, and directories of files, to be tried again. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 192
#define KEPT	64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint32_t next_random(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

static int try_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t size;

	if (!f) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

static int try_path(const char *path)
{
	DIR *dir = opendir(path);
	char name[4096];
	struct dirent *e;
	int rc = 0, n = 0;

	if (!dir)
		return try_file(path);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		rc |= try_file(name);
		n++;
	}
	closedir(dir);
	printf("%d inputs of %s\n", n, path);
	return rc | !n;
}

int main(int argc, char **argv)
{
	static uint8_t kept[KEPT][LONGEST];
	static size_t sizes[KEPT];
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;

	if (argc > 1 && !count) {
		int rc = 0;

		for (int i = 1; i < argc; i++)
			rc |= try_path(argv[i]);
		return rc;
	}
	state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	for (unsigned long n = 0; n < count; n++) {
		uint32_t slot = next_random() % KEPT, from = next_random() % KEPT;
		size_t size = next_random() % LONGEST;
		size_t keep = next_random() % 2 ? next_random() % LONGEST : 0;
		uint8_t *exact;

		keep = keep < sizes[from] ? keep : sizes[from];
		memmove(kept[slot], kept[from], keep);
		for (size_t i = keep; i < size; i++)
			kept[slot][i] = (uint8_t)next_random();
		sizes[slot] = size > keep ? size : keep;
		/* Of the exact size, so that a sanitizer sees a byte too many. */
		exact = malloc(sizes[slot] ? sizes[slot] : 1);
		if (!exact)
			abort();
		memcpy(exact, kept[slot], sizes[slot]);
		LLVMFuzzerTestOneInput(exact, sizes[slot]);
		free(exact);
	}
	printf("%lu inputs\n", count);
	return 0;
}
