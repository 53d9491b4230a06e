#include "account.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "fs.h"

#define ACCOUNT_BUCKETS 256
#define ACCOUNT_SHARE	4 /* of the mount's bytes: a quarter for an ordinary user */

/* A handle of a governed file takes up to 6 KiB, and the file two descriptors of ours, of
 * which an ordinary user gets a quarter. */
#define ACCOUNT_MAX_HANDLES  131072 /* of a mount */
#define ACCOUNT_USER_HANDLES 16384
#define ACCOUNT_FILES_PART   8

struct fs_account {
	uid_t uid;
	_Atomic uint64_t bytes;
	/* Under accounts_lock: */
	struct fs_account *next;
	uint64_t handles, files, refs;
};

/* A process serves one mount. */
static pthread_mutex_t accounts_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct fs_account *accounts[ACCOUNT_BUCKETS];
static uint64_t accounts_handles;

static bool is_ordinary(const struct fs_mount *m, const struct fs_account *a)
{
	return a->uid != 0 && a->uid != m->uid;
}

static void account_full(const struct fs_account *a, const char *event, uint64_t has)
{
	FS_LOG(LOG_WARNING, a->uid, event, FS_INT("uid", a->uid), FS_INT("has", has),
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

static uint64_t files_allowed(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) ? ACCOUNT_USER_HANDLES
						: limit.rlim_cur / ACCOUNT_FILES_PART;
}

/* ---- public ---- */

int fs_account_open(struct fs_mount *m, uid_t uid, struct fs_account **account)
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
	       (is_ordinary(m, a) && a->handles >= ACCOUNT_USER_HANDLES);
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
	fs_account_unref(m, a);
	*account = NULL;
	return -ENOMEM;
}

void fs_account_close(struct fs_mount *m, struct fs_account *account)
{
	if (!account)
		return;
	pthread_mutex_lock(&accounts_lock);
	account->handles--;
	accounts_handles--;
	account_put(account);
	pthread_mutex_unlock(&accounts_lock);
}

int fs_account_file(struct fs_mount *m, struct fs_account *account,
		    struct fs_account **payer)
{
	uint64_t allowed = files_allowed(), has;
	bool full = false;

	pthread_mutex_lock(&accounts_lock);
	has = account->files;
	if (!*payer) {
		full = is_ordinary(m, account) && has >= allowed;
		if (!full) {
			account->files++;
			account->refs++;
			*payer = account;
		}
	}
	pthread_mutex_unlock(&accounts_lock);
	if (full)
		account_full(account, "files-full", has);
	return full ? -ENOMEM : 0;
}

void fs_account_file_close(struct fs_mount *m, struct fs_account *payer)
{
	if (!payer)
		return;
	pthread_mutex_lock(&accounts_lock);
	payer->files--;
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

void fs_account_unref(struct fs_mount *m, struct fs_account *account)
{
	pthread_mutex_lock(&accounts_lock);
	account_put(account);
	pthread_mutex_unlock(&accounts_lock);
}

/* A share is never less than one record, or none of that size could be finished. */
static uint64_t bytes_allowed(const struct fs_mount *m)
{
	uint64_t share = atomic_load(&m->pending_max) / ACCOUNT_SHARE;
	uint64_t longest = jsonl_policy_maxrecord(m->policy);

	return share > longest ? share : longest;
}

int fs_account_charge(struct fs_mount *m, struct fs_account *account, int64_t bytes)
{
	uint64_t all = atomic_fetch_add(&m->pending_bytes, (uint64_t)bytes);
	uint64_t own = atomic_fetch_add(&account->bytes, (uint64_t)bytes);

	if (bytes <= 0 ||
	    (all + (uint64_t)bytes <= atomic_load(&m->pending_max) &&
	     (!is_ordinary(m, account) || own + (uint64_t)bytes <= bytes_allowed(m))))
		return 0;
	atomic_fetch_sub(&m->pending_bytes, (uint64_t)bytes);
	atomic_fetch_sub(&account->bytes, (uint64_t)bytes);
	account_full(account, "pending-full", own);
	return -ENOBUFS;
}
