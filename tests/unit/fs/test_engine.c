/* SPDX-License-Identifier: MIT */
/* Mount tables of hosts that cannot be had here. */
#include "base/engine.h"

#include <string.h>

#include "check.h"

static const char table[] =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 22 0:41 / /srv/a rw shared:9 - nfs srv:/x rw,vers=3,nolock,proto=tcp\n"
    "31 22 0:42 / /srv/b rw - nfs srv:/x rw,vers=3,hard,local_lock=none\n"
    "32 22 0:43 / /srv/c rw - nfs srv:/x rw,local_lock=flock\n"
    "33 22 0:44 / /srv/d rw - nfs4 srv:/x rw,vers=4.2,local_lock=none\n"
    "34 22 0:45 / /srv/e rw - cifs //srv/x rw,vers=3.1.1,nobrl\n"
    "35 22 0:46 / /srv/f rw - cifs //srv/x rw,nobrlx,xnobrl\n"
    "36 22 0:47 / /srv/g rw - fuse.sshfs a@b: rw,user_id=0\n"
    "37 22 0:48 / /srv/h rw - 9p share rw,trans=virtio\n"
    "38 22 0:49 / /srv/i rw - fuse.glusterfs srv:/v rw\n"
    "39 22 0:50 / /srv/j\\040-\\040nfs rw - smb3 //srv/x nobrl\n"
    "41 22 0:52 / /srv/l rw - fuse.ceph-fuse ceph-fuse rw,user_id=0\n"
    "40 22 0:51 / /srv/k rw - nfs";

static bool is(unsigned long long id, const char *expected)
{
	FILE *f = fmemopen((char *)table, sizeof(table) - 1, "r");
	struct fs_engine e;

	fs_engine_in(f, id, &e);
	fclose(f);
	return expected ? e.local_locks && strcmp(e.local_locks, expected) == 0
			: !e.local_locks;
}

/* Returns true when this is what is known of it. */
static bool holds(unsigned long long id, const char *type, const char *fences,
		  uint64_t longest)
{
	FILE *f = fmemopen((char *)table, sizeof(table) - 1, "r");
	struct fs_engine e;

	fs_engine_in(f, id, &e);
	fclose(f);
	return strcmp(e.type, type) == 0 && strcmp(e.fences, fences) == 0 &&
	       e.longest == longest;
}

int main(void)
{
	CHECK(is(22, NULL));
	CHECK(is(30, "nfs with nolock"));
	CHECK(is(31, NULL));
	CHECK(is(32, "nfs with local_lock"));
	CHECK(is(33, NULL));
	CHECK(is(34, "cifs with nobrl"));
	CHECK(is(35, NULL));
	CHECK(is(36, "sshfs"));
	CHECK(is(37, "9p"));
	CHECK(is(38, NULL));
	CHECK(is(39, "smb3 with nobrl"));
	CHECK(is(40, NULL));
	CHECK(is(3, NULL));
	CHECK(holds(38, "fuse.glusterfs", "no", 126976));
	CHECK(holds(41, "fuse.ceph-fuse", "yes", 0));
	CHECK(holds(22, "ext4", "unknown", 0) && holds(40, "nfs", "unknown", 0) &&
	      holds(3, "", "unknown", 0));
	for (int fd = -1; fd < 1; fd++) {
		struct fs_engine e;

		fs_engine_of(fd, &e);
		CHECK(!e.local_locks && !e.longest);
	}
	return check_done();
}
