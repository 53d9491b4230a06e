/* SPDX-License-Identifier: MIT */
/* Takes and releases the locks of a file, and finds out in between whether the file
 * still has its name, and where its whole records end. */
#include "file/file_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "base/stamp.h"

/* Number of attempts, and the pause between them, while no descriptor is free. */
#define FILE_AGAIN    200
#define FILE_AGAIN_MS 10

/* Opens the file anew for appending, under the old number of the descriptor. `patient`:
 * waits until a descriptor is free. */
static int append_again(struct jsonl_file *f, bool patient)
{
	const struct timespec pause = {.tv_nsec = FILE_AGAIN_MS * 1000000L};
	char path[32];
	int fd, rc;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	for (int tried = 0;; tried++) {
		fd = f->io->openat(f->io, AT_FDCWD, path, O_RDWR | O_APPEND, 0);
		if ((fd != -EMFILE && fd != -ENFILE) || !patient || tried == FILE_AGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	if (fd < 0)
		return fd;
	rc = f->io->refer(f->io, fd, f->append_fd);
	f->io->close(f->io, fd);
	f->append_lost = rc != 0;
	return rc;
}

/* Opens the descriptor that appends again, if that failed the last time. */
static int append_ready(struct jsonl_file *f)
{
	return f->append_fd < 0	 ? -EBADF
	       : f->next.fd >= 0 ? jsonl_file_switch_finish(f)
	       : f->append_lost	 ? append_again(f, false)
				 : 0;
}

/* ---- taking turns with other hosts; under file->lock ---- */

static bool tenure_is_over(const struct jsonl_file *f)
{
	return f->tenure.broken || jsonl_now_ms() - f->tenure.since >= JSONL_TENURE_MS ||
	       f->end - f->tenure.from >= JSONL_TENURE_BYTES;
}

/* Returns true when nobody seems about to append: others need not wait until the time is
 * over. */
static bool tenure_is_idle(const struct jsonl_file *f)
{
	return jsonl_now_ms() - f->tenure.used >= JSONL_TENURE_IDLE_MS;
}

static void tenure_begin(struct jsonl_file *f)
{
	f->tenure.held = f->tenure.fresh = true;
	f->tenure.since = f->tenure.used = jsonl_now_ms();
	f->locked_since = f->tenure.since;
	f->tenure.from = f->end;
}

void jsonl_file_tenure_end(struct jsonl_file *f)
{
	struct jsonl_file_state state;

	jsonl_file_get_state(f, &state);
	/* The next host would not see the bytes, and append at the old end. */
	if (state.appended > state.durable && jsonl_file_sync_frozen(f, false))
		f->tenure.broken = -EIO;
	f->io->unlock(f->io, f->append_fd);
	f->tenure.held = false;
	f->locked_since = 0;
	if (!f->tenure.broken)
		return;
	/* Servers that have no room are there. */
	if (!jsonl_file_is_full(f->tenure.broken))
		f->events->report(f->ctx, "lock-lost", f->tenure.broken, f->tenure.from,
				  f->end > f->tenure.from
				      ? (uint64_t)(f->end - f->tenure.from)
				      : 0);
	f->tenure.broken = 0;
	f->end_known = false;
	/* If that fails now, the next append tries it again. */
	f->append_lost = append_again(f, false) != 0;
}

/* Takes the flock, or finds that it is still held. 0, -EAGAIN or -errno. */
static int lock_take(struct jsonl_file *f)
{
	const bool remote = jsonl_file_is_remote(f);
	int rc;

	if (remote && f->tenure.held && tenure_is_over(f)) {
		jsonl_file_tenure_end(f);
		return -EAGAIN; /* other hosts have their turn */
	}
	if (remote && f->tenure.waiting)
		return -EAGAIN;
	if (remote && f->tenure.held)
		return 0;
	rc = f->io->trylock(f->io, f->append_fd);
	if (rc == -EWOULDBLOCK && remote && f->events->turn)
		f->events->turn(f->ctx);
	if (!rc && remote)
		tenure_begin(f);
	return rc == -EWOULDBLOCK || rc == -EINTR ? -EAGAIN : rc;
}

static void lock_give(struct jsonl_file *f)
{
	if (!f->tenure.held) {
		f->io->unlock(f->io, f->append_fd);
		return;
	}
	f->tenure.used = jsonl_now_ms();
	if (!f->events->tenure || tenure_is_over(f)) {
		jsonl_file_tenure_end(f);
	} else if (!f->tenure.timed) {
		f->tenure.timed = true;
		f->events->tenure(f->ctx);
	}
}

bool jsonl_file_tenure_finish(struct jsonl_file *f)
{
	bool done;

	pthread_mutex_lock(&f->lock);
	if (f->tenure.held && (tenure_is_over(f) || tenure_is_idle(f)))
		jsonl_file_tenure_end(f);
	done = !f->tenure.held;
	f->tenure.timed = !done;
	pthread_mutex_unlock(&f->lock);
	return done;
}

int jsonl_file_turn_begin(struct jsonl_file *f)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	if (!f->tenure.held && !f->tenure.waiting && !append_ready(f)) {
		f->tenure.waiting = true;
		fd = f->append_fd;
	}
	pthread_mutex_unlock(&f->lock);
	return fd;
}

void jsonl_file_turn_end(struct jsonl_file *f, bool had)
{
	pthread_mutex_lock(&f->lock);
	f->tenure.waiting = false;
	if (had) {
		tenure_begin(f);
		lock_give(f);
	}
	pthread_mutex_unlock(&f->lock);
}

void jsonl_file_lead(struct jsonl_file *f)
{
	struct jsonl_file_state state;

	jsonl_file_lead_rounds(f);
	if (!f->opt.remote)
		return;
	pthread_mutex_lock(&f->lock);
	jsonl_file_get_state(f, &state);
	if (f->tenure.held && state.poisoned)
		f->tenure.broken = -EIO;
	if (f->tenure.held && (f->tenure.broken || tenure_is_over(f)))
		jsonl_file_tenure_end(f);
	pthread_mutex_unlock(&f->lock);
}

/* ---- the locks ---- */

/* Asks the servers for the size. A client of GlusterFS answers even a forced stat from
 * its memory for a second, but a sync, even without dirty data, fetches what the servers
 * say. */
static int ask_servers(struct jsonl_file *f)
{
	int rc = f->tenure.held && f->tenure.fresh ? jsonl_file_sync_frozen(f, false) : 0;

	if (rc)
		f->tenure.broken = rc;
	return rc;
}

/* Checks that the file still has its name. In shared mode another host may have replaced
 * or removed it while this host waited for the lock, and nobody finds records in a file
 * without a name. */
static int check_named(struct jsonl_file *f, struct jsonl_file_user *user)
{
	struct stat *st = &f->tenure.st;
	int rc;

	if (!jsonl_file_is_shared(f))
		return 0;
	rc = f->tenure.held && !f->tenure.fresh ? 0
						: f->io->fstat(f->io, f->append_fd, st);
	if (rc)
		return rc;
	return user && user->check ? user->check(user, st) : st->st_nlink ? 0 : -ESTALE;
}

/* Decides what an append does when a host has replaced or removed the file: the servers
 * know it no more. As check_named. */
static int check_gone(struct jsonl_file *f, struct jsonl_file_user *user)
{
	struct stat st;
	int rc = jsonl_io_system.fstat(&jsonl_io_system, f->append_fd, &st);

	st.st_nlink = 0;
	return !rc && user && user->check ? user->check(user, &st) : -ESTALE;
}

/* Returns true when nobody else can have changed the file since this host last
 * looked. */
static bool end_is_known(struct jsonl_file *f)
{
	return f->tenure.held && !f->tenure.fresh && f->end_known && f->undo_from < 0 &&
	       !jsonl_file_is_poisoned(f);
}

int jsonl_file_freeze_user(struct jsonl_file *f, struct jsonl_file_user *user, bool any,
			   bool finish, off_t *end)
{
	struct stat st;
	int rc;

	jsonl_file_backpressure(f);
	pthread_mutex_lock(&f->lock);
	rc = f->tenure.waiting ? -EAGAIN : append_ready(f);
	if (!rc)
		rc = lock_take(f);
	if (jsonl_file_is_remote(f) && (rc == -ENOENT || rc == -ESTALE))
		rc = check_gone(f, user);
	if (rc) {
		pthread_mutex_unlock(&f->lock);
		return rc;
	}
	rc = ask_servers(f);
	if (!rc)
		rc = check_named(f, user);
	if (!rc && !end_is_known(f))
		rc = jsonl_file_end_prepare(f);
	if (!rc)
		f->tenure.fresh = false;
	if (!rc && finish)
		rc = jsonl_file_end_finish(f);
	*end = f->end;
	if (any && rc == JSONL_UNKNOWN_TAIL) {
		int failed = f->io->fstat(f->io, f->append_fd, &st);

		if (!failed)
			*end = st.st_size;
		rc = failed ? failed : rc;
	}
	if (rc < 0 || (rc && !any))
		jsonl_file_unfreeze(f);
	return rc;
}

int jsonl_file_freeze(struct jsonl_file *f, off_t *end)
{
	return jsonl_file_freeze_user(f, NULL, false, true, end);
}

int jsonl_file_freeze_for(struct jsonl_file *f, struct jsonl_file_user *user, off_t *end)
{
	return jsonl_file_freeze_user(f, user, false, true, end);
}

int jsonl_file_freeze_as_is(struct jsonl_file *f, off_t *end)
{
	return jsonl_file_freeze_user(f, NULL, false, false, end);
}

int jsonl_file_freeze_any(struct jsonl_file *f, off_t *end)
{
	return jsonl_file_freeze_user(f, NULL, true, true, end);
}

int jsonl_file_ask_writers(struct jsonl_file *f, int (*ask)(int fd))
{
	int rc, failed = 0;

	pthread_mutex_lock(&f->lock);
	if (f->tenure.held)
		jsonl_file_tenure_end(f);
	if (f->append_fd < 0) {
		rc = ask(f->fd);
	} else if (f->tenure.waiting) {
		rc = -EAGAIN;
	} else {
		/* A sync that is under way works on either descriptor. */
		rc = f->io->refer(f->io, f->fd, f->append_fd);
		if (!rc) {
			f->append_lost = true;
			rc = ask(f->fd);
			failed = append_again(f, true);
		}
	}
	pthread_mutex_unlock(&f->lock);
	return failed ? failed : rc;
}

void jsonl_file_unfreeze(struct jsonl_file *f)
{
	lock_give(f);
	pthread_mutex_unlock(&f->lock);
}
