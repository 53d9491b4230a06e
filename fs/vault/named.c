/* SPDX-License-Identifier: MIT */
#include "vault/named.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/stamp.h"
#include "base/look.h"
#include "base/program.h"
#include "vault/deferred.h"
#include "vault/vault.h"

#define NAMED_MAX	512  /* bytes of a name */
#define NAMED_QUEUE	32 /* writes of a uid that may wait for a name, with their data */
#define NAMED_LATELY	64   /* names of scripts that are remembered, */
#define NAMED_LATELY_MS 1000 /* and for how long */
#define NAMED_WAIT_MS	1100 /* longest wait for a name; then it is left out */

const char fs_named_here[] = "";

struct named_write {
	struct fs_job job; /* first: cast back */
	fuse_req_t req;
	struct fs_handle *handle;
	fs_write_op *write;
	off_t off;
	struct fuse_file_info fi;
	size_t len;
	char data[];
};

/* ---- names of scripts, as they were a moment ago ---- */

/* Remembers names: a shell that appends line by line opens the log anew for each
 * line. */
static struct {
	pthread_mutex_t lock; /* a leaf; under it: */
	struct {
		pid_t pid;
		uid_t uid;
		int64_t until;
		char executable[NAMED_MAX], name[NAMED_MAX];
	} names[NAMED_LATELY];
} lately = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lately_note(const struct fuse_ctx *who, const char *executable,
			const char *name)
{
	const size_t at = (size_t)who->pid % NAMED_LATELY;

	pthread_mutex_lock(&lately.lock);
	lately.names[at].pid = who->pid;
	lately.names[at].uid = who->uid;
	lately.names[at].until = jsonl_now_ms() + NAMED_LATELY_MS;
	(void)snprintf(lately.names[at].executable, NAMED_MAX, "%s", executable);
	(void)snprintf(lately.names[at].name, NAMED_MAX, "%s", name);
	pthread_mutex_unlock(&lately.lock);
}

static bool lately_find(const struct fuse_ctx *who, const char *executable, char *name)
{
	const size_t at = (size_t)who->pid % NAMED_LATELY;
	bool found;

	pthread_mutex_lock(&lately.lock);
	found = lately.names[at].pid == who->pid && lately.names[at].uid == who->uid &&
		jsonl_now_ms() < lately.names[at].until &&
		strcmp(lately.names[at].executable, executable) == 0;
	if (found)
		memcpy(name, lately.names[at].name, NAMED_MAX);
	pthread_mutex_unlock(&lately.lock);
	return found;
}

/* ---- the first WRITE of a program ---- */

static int named_write_run(struct fs_job *job, bool last)
{
	struct named_write *w = (struct named_write *)job;
	const struct fuse_ctx *caller = fuse_req_ctx(w->req);
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(w->len);
	const pid_t pid = caller->pid;
	char executable[NAMED_MAX], name[NAMED_MAX];

	fs_program_short(pid, executable, sizeof(executable));
	if (last || !fs_look_program(caller->uid, pid, name, sizeof(name)))
		memcpy(name, executable, sizeof(name));
	else
		lately_note(caller, executable, name);
	in.buf[0].mem = w->data;
	fs_program_known(pid, name);
	w->write(w->req, w->handle, &in, w->off, &w->fi);
	fs_program_known(0, NULL);
	free(w);
	return 0;
}

static bool is_known(struct fs_known *known, pid_t pid)
{
	const size_t n = sizeof(known->pids) / sizeof(known->pids[0]);

	for (size_t k = 0; k < n; k++)
		if (known->pids[k] == pid)
			return true;
	known->pids[known->next++ % n] = pid;
	return false;
}

bool fs_named_write(fuse_req_t req, struct fs_handle *h, struct fs_known *known,
		    struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi,
		    fs_write_op *write)
{
	struct fs_vault *v = fs_vault_of(req);
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	const size_t len = fuse_buf_size(in);
	struct fuse_bufvec flat = FUSE_BUFVEC_INIT(len);
	char name[NAMED_MAX], found[NAMED_MAX] = "";
	struct named_write *w;
	bool script;
	ssize_t got;

	if (v->single || is_known(known, caller->pid))
		return false;
	script = fs_program_short(caller->pid, name, sizeof(name));
	if (script)
		script = !lately_find(caller, name, found);
	w = script && fs_defer_count(v, caller->uid) < NAMED_QUEUE
		? malloc(sizeof(*w) + len)
		: NULL;
	if (!w) {
		/* Its name is asked for once. */
		fs_program_known(caller->pid, found[0] ? found : name);
		write(req, h, in, off, fi);
		fs_program_known(0, NULL);
		return true;
	}
	*w = (struct named_write){
	    .job = {.run = named_write_run, .uid = caller->uid, .timeout_ms = UINT32_MAX},
	    .req = req,
	    .handle = h,
	    .write = write,
	    .off = off,
	    .fi = *fi,
	    .len = len};
	flat.buf[0].mem = w->data;
	/* `in` may be a pipe, from which nothing can be read a second time. */
	got = fuse_buf_copy(&flat, in, 0);
	if (got < 0) {
		free(w);
		fuse_reply_err(req, (int)-got);
		return true;
	}
	w->len = (size_t)got;
	if (fs_defer(v, &w->job))
		named_write_run(&w->job, true);
	return true;
}

/* ---- a name that is found out meanwhile ---- */

struct fs_program {
	pthread_mutex_t lock; /* a leaf; under it: */
	pthread_cond_t cond;
	unsigned users;
	bool asked; /* and not answered yet */
	char name[NAMED_MAX];
};

struct program_job {
	struct fs_job job; /* first: cast back */
	struct fs_program *program;
	pid_t pid;
};

static void program_answered(struct fs_program *p, const char *name)
{
	pthread_mutex_lock(&p->lock);
	if (name)
		memcpy(p->name, name, sizeof(p->name));
	p->asked = false;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

static int program_run(struct fs_job *job, bool last)
{
	struct program_job *j = (struct program_job *)job;
	char name[NAMED_MAX];
	bool found = !last && fs_look_program(job->uid, j->pid, name, sizeof(name));

	program_answered(j->program, found ? name : NULL);
	fs_program_put(j->program);
	free(j);
	return 0;
}

struct fs_program *fs_program_ask(struct fs_vault *v, const struct fuse_ctx *caller)
{
	struct fs_program *p = calloc(1, sizeof(*p));
	struct program_job *j;
	pthread_condattr_t attr;

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &attr);
	pthread_condattr_destroy(&attr);
	p->users = 1;
	if (!fs_program_short(caller->pid, p->name, sizeof(p->name)))
		return p;
	j = malloc(sizeof(*j));
	if (!j)
		return p;
	*j = (struct program_job){
	    .job = {.run = program_run, .uid = caller->uid, .timeout_ms = UINT32_MAX},
	    .program = p,
	    .pid = caller->pid};
	p->users++;
	p->asked = true;
	if (fs_defer(v, &j->job)) {
		p->users--;
		p->asked = false;
		free(j);
	}
	return p;
}

void fs_program_put(struct fs_program *p)
{
	bool last;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	last = --p->users == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void fs_program_get(struct fs_program *p, char *buf, size_t size)
{
	const int64_t end = jsonl_now_ms() + NAMED_WAIT_MS;
	const struct timespec until = {.tv_sec = end / 1000,
				       .tv_nsec = end % 1000 * 1000000};

	if (!p) {
		snprintf(buf, size, "(unknown)");
		return;
	}
	pthread_mutex_lock(&p->lock);
	while (p->asked && fs_defer_here())
		if (pthread_cond_timedwait(&p->cond, &p->lock, &until) == ETIMEDOUT)
			break;
	snprintf(buf, size, "%s", p->name);
	pthread_mutex_unlock(&p->lock);
}

/* ---- the syslog ---- */

#define LINE_FIELDS 16

struct line {
	struct fs_job job; /* first: cast back */
	int priority;
	struct fuse_ctx caller;
	const char *event;
	struct fs_field fields[LINE_FIELDS];
	char text[]; /* of the fields */
};

static void line_log(struct line *l, const char *name)
{
	for (struct fs_field *f = l->fields; f->key; f++)
		if (f->string == fs_named_here)
			f->string = name;
	fs_syslog(l->priority, l->caller.uid, l->event, l->fields);
	free(l);
}

static int line_run(struct fs_job *job, bool last)
{
	struct line *l = (struct line *)job;
	char name[NAMED_MAX];

	if (last || !fs_look_program(l->caller.uid, l->caller.pid, name, sizeof(name)))
		fs_program_short(l->caller.pid, name, sizeof(name));
	line_log(l, name);
	return 0;
}

static struct line *line_new(const struct fs_field *fields)
{
	size_t text = 0, n = 0;
	struct line *l;
	char *to;

	for (; fields[n].key; n++)
		text += fields[n].string ? strlen(fields[n].string) + 1 : 0;
	l = n < LINE_FIELDS ? calloc(1, sizeof(*l) + text) : NULL;
	if (!l)
		return NULL;
	to = l->text;
	for (size_t k = 0; k < n; k++) {
		l->fields[k] = fields[k];
		if (!fields[k].string || fields[k].string == fs_named_here)
			continue;
		l->fields[k].string = to;
		to = stpcpy(to, fields[k].string) + 1;
	}
	return l;
}

void fs_named_log(struct fs_vault *v, int priority, const struct fuse_ctx *caller,
		  const char *event, const struct fs_field *fields)
{
	struct line *l = line_new(fields);
	char name[NAMED_MAX];
	bool more = fs_program_short(caller->pid, name, sizeof(name));

	if (!l) {
		fs_syslog(priority, caller->uid, event, fields);
		return;
	}
	l->priority = priority;
	l->caller = *caller;
	l->event = event;
	l->job = (struct fs_job){
	    .run = line_run, .uid = caller->uid, .timeout_ms = UINT32_MAX};
	if (more && fs_defer_count(v, caller->uid) < NAMED_QUEUE &&
	    fs_defer(v, &l->job) == 0)
		return;
	line_log(l, name);
}
