/* SPDX-License-Identifier: MIT */
/* Stands between a fuzz target and the library (ld --wrap) and answers wrongly now and
 * then, which the target has to notice. Test code alone.
 * NOLINTBEGIN(bugprone-reserved-identifier): the names are those of ld. */
#include <string.h>

#include "block/commit.h"
#include "file/file_internal.h"
#include "quarantine/quarantine.h"
#include "record/frame.h"
#include "report/report.h"
#include "rules/policy.h"
#include "file/tail.h"
#include "json/text_vector.h"
#include "record/writer.h"

#define EACH 10

static bool now(void)
{
	static unsigned calls;

	return ++calls % EACH == 0;
}

bool __real_jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out);
bool __wrap_jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out);

bool __wrap_jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out)
{
	/* What is not accepted has nothing to say, and is called accepted all the same. */
	if (out)
		*out = (struct jsonl_text){0};
	return __real_jsonl_text_accept(line, len, maxdepth, out) != now();
}

void __real_jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut,
			     const char *data, size_t len);
void __wrap_jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut,
			     const char *data, size_t len);

/* The last byte of a fragment is lost. */
void __wrap_jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut,
			     const char *data, size_t len)
{
	__real_jsonl_frame_take(f, cut, data, len);
	if (f->len && now())
		f->len--;
}

int __real_jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size,
			      uint64_t maxrecord, unsigned maxdepth,
			      struct jsonl_tail *tail);
int __wrap_jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size,
			      uint64_t maxrecord, unsigned maxdepth,
			      struct jsonl_tail *tail);

/* The end is whole, whatever it is. */
int __wrap_jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size,
			      uint64_t maxrecord, unsigned maxdepth,
			      struct jsonl_tail *tail)
{
	int rc = __real_jsonl_tail_inspect(io, fd, size, maxrecord, maxdepth, tail);

	if (now())
		tail->state = JSONL_TAIL_CLEAN;
	return rc;
}

int __real_jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller,
			      bool append, off_t off, const char *data, size_t len);
int __wrap_jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller,
			      bool append, off_t off, const char *data, size_t len);

/* Says that it is done, and does nothing. */
int __wrap_jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller,
			      bool append, off_t off, const char *data, size_t len)
{
	if (now())
		return 0;
	return __real_jsonl_writer_write(w, owner, caller, append, off, data, len);
}

enum jsonl_class __real_jsonl_policy_classify(const struct jsonl_policy *policy,
					      const char *path);
enum jsonl_class __wrap_jsonl_policy_classify(const struct jsonl_policy *policy,
					      const char *path);

enum jsonl_class __wrap_jsonl_policy_classify(const struct jsonl_policy *policy,
					      const char *path)
{
	enum jsonl_class class = __real_jsonl_policy_classify(policy, path);

	if (now())
		return class == JSONL_CLASS_GOVERNED ? JSONL_CLASS_PLAIN
						     : JSONL_CLASS_GOVERNED;
	return class;
}

int __real_jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
				struct jsonl_file *file, enum jsonl_recovered *what);
int __wrap_jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
				struct jsonl_file *file, enum jsonl_recovered *what);

/* A byte is cut that nobody has set aside. */
int __wrap_jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
				struct jsonl_file *file, enum jsonl_recovered *what)
{
	int rc = __real_jsonl_commit_recover(io, dir_fd, intent_fd, file, what);
	struct stat st;

	if (now() && !io->fstat(io, file->append_fd, &st) && st.st_size)
		(void)!io->ftruncate(io, file->append_fd, st.st_size - 1);
	return rc;
}

int __real_jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name);
int __wrap_jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name);

/* Says that it is done, and does nothing. */
int __wrap_jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name)
{
	return now() ? 0 : __real_jsonl_quarantine_drop(q, name);
}

const struct jsonl_report *__real_jsonl_report_at(const struct jsonl_report *r,
						  size_t index);
const struct jsonl_report *__wrap_jsonl_report_at(const struct jsonl_report *r,
						  size_t index);

/* One item too far. */
const struct jsonl_report *__wrap_jsonl_report_at(const struct jsonl_report *r,
						  size_t index)
{
	return r && now() ? r : __real_jsonl_report_at(r, index);
}
/* NOLINTEND(bugprone-reserved-identifier) */
