/* SPDX-License-Identifier: MIT */
/* A logger on C stdio that minds no error, as most do: it goes on after a refused record.
 *
 *   stdio_log FILE COUNT [bad=N] [buf=full|line|none] [pad=BYTES] [id=TEXT] [close=no]
 *
 * Writes records {"id":...,"n":1,"pad":"..."}; record N is not JSON. Prints how many
 * fprintf and fflush calls failed, and how fclose ended. close=no: _exit, nothing closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count, bad = 0, failed = 0;
	size_t pad = 20;
	int mode = _IOFBF, finish = 1, closed = 0;
	const char *id = "c";
	char *filler;
	FILE *f;

	if (argc < 3)
		return 2;
	count = atol(argv[2]);
	for (int i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "bad=", 4))
			bad = atol(argv[i] + 4);
		else if (!strncmp(argv[i], "pad=", 4))
			pad = (size_t)atol(argv[i] + 4);
		else if (!strncmp(argv[i], "id=", 3))
			id = argv[i] + 3;
		else if (!strcmp(argv[i], "buf=line"))
			mode = _IOLBF;
		else if (!strcmp(argv[i], "buf=none"))
			mode = _IONBF;
		else if (!strcmp(argv[i], "close=no"))
			finish = 0;
	}
	filler = malloc(pad + 1);
	f = fopen(argv[1], "a");
	if (!f || !filler)
		return 3;
	memset(filler, 'x', pad);
	filler[pad] = 0;
	setvbuf(f, NULL, mode, BUFSIZ);
	for (long n = 1; n <= count; n++) {
		if (n == bad)
			failed +=
			    fprintf(f, "{\"id\":\"%s\",\"n\":%ld,oops}\n", id, n) < 0;
		else
			failed += fprintf(f, "{\"id\":\"%s\",\"n\":%ld,\"pad\":\"%s\"}\n",
					  id, n, filler) < 0;
		clearerr(f);
	}
	if (!finish)
		_exit(0);
	if (fclose(f))
		closed = errno;
	printf("failed=%ld close=%s\n", failed, closed ? strerror(closed) : "ok");
	free(filler);
	return 0;
}
