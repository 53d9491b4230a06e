/* SPDX-License-Identifier: MIT */
#include "vault/account.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/syslog.h"
#include "rules/policy.h"
#include "vault/vault.h"

#define ACCOUNT_BUCKETS 256
#define ACCOUNT_SHARE	4 /* a user's part of the mount's bytes: a quarter */

/* A handle of a governed file takes up to 6 KiB, and the file two descriptors of ours, of
 * which an ordinary user gets a quarter; and one of its directory until the first sync. */
#define ACCOUNT_MAX_HANDLES  131072 /* of a mount */
#define ACCOUNT_USER_HANDLES 16384
#define ACCOUNT_FILES_PART   8
#define ACCOUNT_FILE_TAKES   3

/* Eighths of the daemon's descriptors: what all ordinary users together get without
 * logs, and with logs. A user gets no more than is left for the next one (alone a half, of
 * two a third each), but always a few, from a sixteenth on top. The rest is root's and the
 * daemon's own. */
#define ACCOUNT_OTHER_PART   4
#define ACCOUNT_ALL_PART     6
#define ACCOUNT_PARTS	     8
#define ACCOUNT_TOP_PART     16
#define ACCOUNT_LEAST_PART   128

struct fs_account {
	uid_t uid;
	_Atomic uint64_t bytes;
	/* Under accounts_lock: */
	struct fs_account *next;
	uint64_t handles, files, descriptors, refs;
};

/* One for the process, which serves one mount. */
static pthread_mutex_t accounts_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct fs_account *accounts[ACCOUNT_BUCKETS];
static uint64_t accounts_handles;
/* Sums of ordinary users. */
static uint64_t accounts_files, accounts_descriptors;

static bool is_ordinary(const struct fs_vault *v, const struct fs_account *a)
{
	return a->uid != 0 && a->uid != v->uid;
}

static void account_full(const struct fs_account *a, const char *event, uint64_t has)
{
	FS_SYSLOG(LOG_WARNING, a->uid, event, FS_INT("uid", a->uid), FS_INT("has", has),
		  FS_STR("reason", "too much is open or unfinished at once"));
}

/* ---- accounts; under the lock ---- */

static struct fs_account *account_find(uid_t uid)
{
	struct fs_account **list = &accounts[uid % ACCOUNT_BUCKETS], *a = *list;

	while (a && a->uid != uid)
		a = a->next;
	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->uid = uid;
	a->next = *list;
	*list = a;
	return a;
}

static void account_put(struct fs_account *a)
{
	struct fs_account **p = &accounts[a->uid % ACCOUNT_BUCKETS];

	if (--a->refs)
		return;
	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
	free(a);
}

static uint64_t descriptors_in_all(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit)
		   ? (uint64_t)ACCOUNT_USER_HANDLES * ACCOUNT_FILES_PART
		   : limit.rlim_cur;
}

/* Returns true when this user, with `own` descriptors of one kind, would have more of
 * them than are left of `parts` eighths when `taken` are in use. */
static bool is_over(uint64_t limit, unsigned parts, uint64_t taken, uint64_t own)
{
	uint64_t all = limit / ACCOUNT_PARTS * parts;

	if (own < limit / ACCOUNT_LEAST_PART)
		return taken >= all + limit / ACCOUNT_TOP_PART;
	return taken >= all || own >= all - taken;
}

/* Returns true when the user may not open another file. Under the lock. */
static bool files_full(const struct fs_account *a, uint64_t limit)
{
	uint64_t taken = accounts_descriptors + accounts_files * ACCOUNT_FILE_TAKES;

	return a->files >= limit / ACCOUNT_FILES_PART ||
	       is_over(limit, ACCOUNT_ALL_PART, taken, a->files * ACCOUNT_FILE_TAKES);
}

/* ---- public ---- */

int fs_account_open(struct fs_vault *v, uid_t uid, struct fs_account **account)
{
	struct fs_account *a;
	uint64_t has = 0;
	bool full;

	pthread_mutex_lock(&accounts_lock);
	a = account_find(uid);
	if (!a) {
		pthread_mutex_unlock(&accounts_lock);
		return -ENOMEM;
	}
	a->refs++;
	full = accounts_handles >= ACCOUNT_MAX_HANDLES ||
	       (is_ordinary(v, a) && a->handles >= ACCOUNT_USER_HANDLES);
	if (!full) {
		a->handles++;
		accounts_handles++;
	}
	has = a->handles;
	pthread_mutex_unlock(&accounts_lock);
	*account = a;
	if (!full)
		return 0;
	account_full(a, "handles-full", has);
	fs_account_unref(v, a);
	*account = NULL;
	return -ENOMEM;
}

void fs_account_close(struct fs_vault *v, struct fs_account *account)
{
	if (!account)
		return;
	pthread_mutex_lock(&accounts_lock);
	account->handles--;
	accounts_handles--;
	account_put(account);
	pthread_mutex_unlock(&accounts_lock);
}

int fs_account_file(struct fs_vault *v, struct fs_account *account,
		    struct fs_account **payer)
{
	uint64_t has;
	bool full = false;

	pthread_mutex_lock(&accounts_lock);
	has = account->files;
	if (!*payer) {
		full = is_ordinary(v, account) && files_full(account, descriptors_in_all());
		if (!full) {
			account->files++;
			accounts_files += is_ordinary(v, account);
			account->refs++;
			*payer = account;
		}
	}
	pthread_mutex_unlock(&accounts_lock);
	if (full)
		account_full(account, "files-full", has);
	return full ? -ENOMEM : 0;
}

void fs_account_file_close(struct fs_vault *v, struct fs_account *payer)
{
	if (!payer)
		return;
	pthread_mutex_lock(&accounts_lock);
	payer->files--;
	accounts_files -= is_ordinary(v, payer);
	account_put(payer);
	pthread_mutex_unlock(&accounts_lock);
}

int fs_account_descriptor(struct fs_vault *v, uid_t uid, struct fs_account **payer)
{
	const uint64_t limit = descriptors_in_all();
	struct fs_account *a;
	uint64_t has;
	bool full;

	*payer = NULL;
	if (uid == 0 || uid == v->uid)
		return 0;
	pthread_mutex_lock(&accounts_lock);
	a = account_find(uid);
	if (!a) {
		pthread_mutex_unlock(&accounts_lock);
		return -ENOMEM;
	}
	a->refs++;
	has = a->descriptors;
	full = is_over(limit, ACCOUNT_OTHER_PART, accounts_descriptors, has);
	if (!full) {
		a->descriptors++;
		accounts_descriptors++;
		*payer = a;
	}
	pthread_mutex_unlock(&accounts_lock);
	if (!full)
		return 0;
	account_full(a, "descriptors-full", has);
	fs_account_unref(v, a);
	return -ENFILE;
}

void fs_account_descriptor_close(struct fs_account *payer)
{
	if (!payer)
		return;
	pthread_mutex_lock(&accounts_lock);
	payer->descriptors--;
	accounts_descriptors--;
	account_put(payer);
	pthread_mutex_unlock(&accounts_lock);
}

struct fs_account *fs_account_ref(struct fs_account *account)
{
	pthread_mutex_lock(&accounts_lock);
	account->refs++;
	pthread_mutex_unlock(&accounts_lock);
	return account;
}

void fs_account_unref(struct fs_vault *v, struct fs_account *account)
{
	pthread_mutex_lock(&accounts_lock);
	account_put(account);
	pthread_mutex_unlock(&accounts_lock);
}

/* Returns a user's share, which is never less than one record, or none of that size
 * could be completed. */
static uint64_t bytes_allowed(const struct fs_vault *v)
{
	uint64_t share = atomic_load(&v->pending_max) / ACCOUNT_SHARE;
	uint64_t longest = jsonl_policy_maxrecord(v->policy);

	return share > longest ? share : longest;
}

int fs_account_charge(struct fs_vault *v, struct fs_account *account, int64_t bytes)
{
	uint64_t all = atomic_fetch_add(&v->pending_bytes, (uint64_t)bytes);
	uint64_t own = atomic_fetch_add(&account->bytes, (uint64_t)bytes);

	if (bytes <= 0 ||
	    (all + (uint64_t)bytes <= atomic_load(&v->pending_max) &&
	     (!is_ordinary(v, account) || own + (uint64_t)bytes <= bytes_allowed(v))))
		return 0;
	atomic_fetch_sub(&v->pending_bytes, (uint64_t)bytes);
	atomic_fetch_sub(&account->bytes, (uint64_t)bytes);
	account_full(account, "pending-full", own);
	return -ENOBUFS;
}
