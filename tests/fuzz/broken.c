/* Stands between a fuzz target and the library (ld --wrap) and answers wrongly now and
 * then, which the target has to notice. Test code alone.
 * NOLINTBEGIN(bugprone-reserved-identifier): the names are those of ld. */
#include <string.h>

#include "frame.h"
#include "policy.h"
#include "tail.h"
#include "text_vector.h"
#include "writer.h"

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
/* NOLINTEND(bugprone-reserved-identifier) */
