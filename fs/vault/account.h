/* SPDX-License-Identifier: MIT */
/* Accounts for the daemon's memory: unfinished records, refused requests that are
 * remembered, and open handles of logs. The mount has a bound and each ordinary user a
 * share of it: a user who opens thousands of handles and finishes no record gets errors,
 * and nobody else notices. The same holds for the daemon's descriptors, of which a part
 * is root's alone. The memory of a handle is charged to the user who opened it. Root and
 * the user who mounted have no share, only the mount's bound. Any thread. */
#ifndef FS_VAULT_ACCOUNT_H
#define FS_VAULT_ACCOUNT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_account;
struct fs_vault;

/* Accounts for one more handle. -ENOMEM: there are too many, or no memory is left. Pair
 * with fs_account_close. */
int fs_account_open(struct fs_vault *v, uid_t uid,
		    struct fs_account **account) jsonl_must_check;
void fs_account_close(struct fs_vault *v, struct fs_account *account);
/* Accounts for the file behind the handle. If another account pays for it already, *payer
 * stays; else *payer is set, and is to be given to _file_close when the file is closed.
 * -ENOMEM: this user keeps too many files open. */
int fs_account_file(struct fs_vault *v, struct fs_account *account,
		    struct fs_account **payer) jsonl_must_check;
void fs_account_file_close(struct fs_vault *v, struct fs_account *payer);
/* Accounts for one more descriptor of this user: of a plain file, a directory, staged
 * content. *payer is to be given to _descriptor_close. -ENFILE: the user, or all users
 * together, have so many that the rest is kept for root and for logs. */
int fs_account_descriptor(struct fs_vault *v, uid_t uid,
			  struct fs_account **payer) jsonl_must_check;
/* NULL is allowed. */
void fs_account_descriptor_close(struct fs_account *payer);
/* Keeps the account for memory that may outlive the handle; pair with _unref. */
struct fs_account *fs_account_ref(struct fs_account *account);
void fs_account_unref(struct fs_vault *v, struct fs_account *account);
/* Charges more bytes (or, if negative, gives bytes back, which always succeeds). 0 or
 * -ENOBUFS. */
int fs_account_charge(struct fs_vault *v, struct fs_account *account,
		      int64_t bytes) jsonl_must_check;

#endif
