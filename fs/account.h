/* Who takes how much of the daemon's memory: unfinished records, refused requests that
 * are remembered, and open handles of governed files. There is a bound for the mount and
 * a share of it for each ordinary user, so that one of them who opens thousands of
 * handles and finishes nothing gets errors, and nobody else notices. What a handle holds
 * counts for whoever opened it; root, and the one who mounted, have no share but the
 * mount's bound. Any thread. */
#ifndef FS_ACCOUNT_H
#define FS_ACCOUNT_H

#include <stdint.h>
#include <sys/types.h>

#include "error.h"

struct fs_account;
struct fs_mount;

/* Accounts for one more handle. -ENOMEM: there are too many, or no memory is left. Pair
 * with fs_account_close. */
int fs_account_open(struct fs_mount *m, uid_t uid,
		    struct fs_account **account) jsonl_must_check;
void fs_account_close(struct fs_mount *m, struct fs_account *account);
/* The file behind the handle is open for this account, unless it is for another already:
 * *payer then stays as it is, else it is set, to be given to _file_close when the file is
 * closed. -ENOMEM: this user keeps too many files open, of the daemon's descriptors. */
int fs_account_file(struct fs_mount *m, struct fs_account *account,
		    struct fs_account **payer) jsonl_must_check;
void fs_account_file_close(struct fs_mount *m, struct fs_account *payer);
/* The same user's memory for something that may outlive the handle; pair with _unref. */
struct fs_account *fs_account_ref(struct fs_account *account);
void fs_account_unref(struct fs_mount *m, struct fs_account *account);
/* More bytes (or, negative, fewer, which always works). 0 or -ENOBUFS. */
int fs_account_charge(struct fs_mount *m, struct fs_account *account,
		      int64_t bytes) jsonl_must_check;

#endif
