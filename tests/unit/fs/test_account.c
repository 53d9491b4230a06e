/* SPDX-License-Identifier: MIT */
/* What each user may have of the daemon's memory, handles and descriptors. */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "check.h"
#include "rig.h"
#include "tree/mount.h"
#include "vault/account.h"
#include "vault/vault.h"

#define ANN   70001
#define BEN   70002
#define CEM   70003
#define MIB   (INT64_C(1) << 20)
#define LIMIT 1024 /* descriptors of the process */

static struct fs_vault *const v = &rig_mount.vault;

static void limit_descriptors(void)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max >= LIMIT);
	limit.rlim_cur = LIMIT;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* A quarter of pending_max is for one user, all of it for all and for root. */
static void test_bytes(void)
{
	struct fs_account *ann = NULL, *root = NULL;

	rig_begin("{\"pending_max\": \"128M\"}");
	CHECK(fs_account_open(v, ANN, &ann) == 0 && fs_account_open(v, 0, &root) == 0);
	CHECK(fs_account_charge(v, ann, 32 * MIB) == 0);
	CHECK(fs_account_charge(v, ann, 1) == -ENOBUFS);
	CHECK(fs_account_charge(v, ann, -1) == 0 && fs_account_charge(v, ann, 1) == 0);
	CHECK(fs_account_charge(v, root, 96 * MIB) == 0);
	CHECK(fs_account_charge(v, root, 1) == -ENOBUFS);
	CHECK(fs_account_charge(v, ann, -32 * MIB) == 0);
	CHECK(fs_account_charge(v, root, -96 * MIB) == 0);
	fs_account_close(v, ann);
	fs_account_close(v, root);
	rig_end();
	/* But one record of the longest kind can always be finished. */
	rig_begin("{\"pending_max\": \"16M\"}");
	CHECK(fs_account_open(v, ANN, &ann) == 0);
	CHECK(fs_account_charge(v, ann, 16 * MIB) == 0);
	CHECK(fs_account_charge(v, ann, -16 * MIB) == 0);
	fs_account_close(v, ann);
	rig_end();
}

/* Opens handles for a user until no more are given. Returns how many were. */
static unsigned open_handles(uid_t uid, struct fs_account **account, unsigned most)
{
	struct fs_account *one;
	unsigned n = 0;

	while (n < most && fs_account_open(v, uid, &one) == 0) {
		*account = one;
		n++;
	}
	return n;
}

static void close_handles(struct fs_account *account, unsigned n)
{
	while (n--)
		fs_account_close(v, account);
}

static void test_handles(void)
{
	struct fs_account *ann = NULL, *ben = NULL, *root = NULL;

	rig_begin(NULL);
	CHECK(open_handles(ANN, &ann, 20000) == 16384);
	CHECK(open_handles(BEN, &ben, 1) == 1);
	CHECK(open_handles(0, &root, 200000) == 131072 - 16384 - 1);
	CHECK(open_handles(BEN, &ben, 1) == 0);
	close_handles(ann, 16384);
	close_handles(ben, 1);
	close_handles(root, 131072 - 16384 - 1);
	rig_end();
}

/* Logs are an eighth of the descriptors' number for one user; root has no bound. */
static void test_files(void)
{
	struct fs_account *ann = NULL, *root = NULL, *payers[LIMIT] = {NULL};
	unsigned n = 0;

	rig_begin(NULL);
	CHECK(fs_account_open(v, ANN, &ann) == 0 && fs_account_open(v, 0, &root) == 0);
	while (n < LIMIT && fs_account_file(v, ann, &payers[n]) == 0)
		n++;
	CHECK(n == LIMIT / 8, "%u", n);
	/* Who opens a file that is paid for pays nothing. */
	CHECK(fs_account_file(v, ann, &payers[0]) == 0 && payers[0] == ann);
	CHECK(fs_account_file(v, root, &payers[n]) == 0 && payers[n] == root);
	for (unsigned i = 0; i <= n; i++)
		fs_account_file_close(v, payers[i]);
	fs_account_close(v, ann);
	fs_account_close(v, root);
	rig_end();
}

static unsigned take(uid_t uid, struct fs_account *payers[LIMIT])
{
	unsigned n = 0;

	while (n < LIMIT && fs_account_descriptor(v, uid, &payers[n]) == 0)
		n++;
	return n;
}

static void give_back(struct fs_account *payers[LIMIT], unsigned n)
{
	while (n)
		fs_account_descriptor_close(payers[--n]);
}

/* A user gets as many of the half as are left for the next one, and always a few. */
static void test_descriptors(void)
{
	static struct fs_account *of_ann[LIMIT], *of_ben[LIMIT], *of_cem[LIMIT];
	unsigned ann, ben, cem;

	rig_begin(NULL);
	ann = take(ANN, of_ann);
	ben = take(BEN, of_ben);
	cem = take(CEM, of_cem);
	CHECK(ann == LIMIT / 4 && ben == LIMIT / 8 && cem == LIMIT / 16, "%u %u %u", ann,
	      ben, cem);
	/* What one gives back the others may have. */
	give_back(of_ann, ann);
	CHECK(fs_account_descriptor(v, BEN, &of_ben[ben]) == 0);
	give_back(of_ben, ben + 1);
	give_back(of_cem, cem);
	CHECK(take(0, of_ann) == LIMIT && !of_ann[0]);
	rig_end();
}

int main(void)
{
	limit_descriptors();
	test_bytes();
	test_handles();
	test_files();
	test_descriptors();
	return check_done();
}
