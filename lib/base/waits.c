/* SPDX-License-Identifier: MIT */
#include "base/waits.h"

#include <stdatomic.h>
#include <stddef.h>

typedef void (*waits_fn)(void);

/* The control socket's threads run before the loop does. */
static _Atomic(waits_fn) waits_told;

void jsonl_waits(void)
{
	waits_fn told = atomic_load(&waits_told);

	if (told)
		told();
}

void jsonl_waits_tell(void (*told)(void))
{
	atomic_store(&waits_told, told);
}
