/* Log lines as JSON, in a ring that every follower reads at its own pace. Lines are made
 * while somebody follows, and only then; who falls behind is told how many are gone. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "control.h"
#include "report.h"

#define EVENTS_RING    1024
#define EVENTS_SECONDS 1 /* then a look whether the follower is still there */

static struct {
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t more;
	_Atomic unsigned followers;
	/* Under lock: */
	bool ended;
	char *ring[EVENTS_RING];
	uint64_t next; /* number of the event that comes */
} events = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char *event_text(uid_t uid, const char *event, const struct fs_field *fields)
{
	struct jsonl_report *o = jsonl_report_object();
	struct timespec now;
	char stamp[48];
	struct tm tm;
	size_t n;
	char *text;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(stamp + n, sizeof(stamp) - n, ".%03ldZ", now.tv_nsec / 1000000);
	jsonl_report_add_string(o, "time", stamp);
	jsonl_report_add_string(o, "event", event);
	for (; fields->key; fields++) {
		if (fields->string)
			jsonl_report_add_string(o, fields->key, fields->string);
		else
			jsonl_report_add_int(o, fields->key, fields->number);
	}
	text = jsonl_report_text(o, false);
	jsonl_report_free(o);
	if (text && strlen(text) > FS_CONTROL_PACKET)
		free(steal_ptr(&text));
	return text;
}

static void events_tap(int priority, uid_t uid, const char *event,
		       const struct fs_field *fields)
{
	char *text, **place;

	if (!events.followers || priority == LOG_DEBUG)
		return;
	text = event_text(uid, event, fields);
	pthread_mutex_lock(&events.lock);
	place = &events.ring[events.next++ % EVENTS_RING];
	free(*place);
	*place = text; /* NULL counts as missed */
	pthread_cond_broadcast(&events.more);
	pthread_mutex_unlock(&events.lock);
}

void fs_control_events_init(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&events.more, &attr);
	pthread_condattr_destroy(&attr);
	fs_log_tap(events_tap);
}

void fs_control_events_end(void)
{
	pthread_mutex_lock(&events.lock);
	events.ended = true;
	pthread_cond_broadcast(&events.more);
	pthread_mutex_unlock(&events.lock);
}

static bool is_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* The next event for who stands at *cursor, to be freed; NULL: none has come for a while,
 * or the last one has. *missed: how many are gone. */
static char *event_wait(uint64_t *cursor, uint64_t *missed)
{
	cleanup_unlock pthread_mutex_t *locked = &events.lock;
	struct timespec until;
	const char *text = NULL;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += EVENTS_SECONDS;
	pthread_mutex_lock(locked);
	while (*cursor == events.next && !events.ended)
		if (pthread_cond_timedwait(&events.more, locked, &until) == ETIMEDOUT)
			break;
	if (events.next - *cursor > EVENTS_RING) {
		*missed += events.next - *cursor - EVENTS_RING;
		*cursor = events.next - EVENTS_RING;
	}
	while (!text && *cursor < events.next) {
		text = events.ring[(*cursor)++ % EVENTS_RING];
		*missed += !text;
	}
	return text ? strdup(text) : NULL;
}

static bool tell(int fd, const char *text)
{
	size_t len = strlen(text);

	return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool tell_missed(int fd, uint64_t *missed)
{
	char text[80];

	if (!*missed)
		return true;
	(void)snprintf(text, sizeof(text), "{\"event\":\"missed\",\"count\":%llu}\n",
		       (unsigned long long)*missed);
	*missed = 0;
	return tell(fd, text);
}

void fs_control_events_follow(int fd)
{
	uint64_t cursor, missed = 0;
	bool good = true, ended = false;

	pthread_mutex_lock(&events.lock);
	cursor = events.next;
	events.followers++;
	pthread_mutex_unlock(&events.lock);
	while (good && !ended) {
		cleanup_free char *text = event_wait(&cursor, &missed);

		good = tell_missed(fd, &missed) && (text ? tell(fd, text) : !is_gone(fd));
		pthread_mutex_lock(&events.lock);
		ended = events.ended && cursor == events.next;
		pthread_mutex_unlock(&events.lock);
	}
	pthread_mutex_lock(&events.lock);
	events.followers--;
	for (size_t i = 0; !events.followers && i < EVENTS_RING; i++)
		free(steal_ptr(&events.ring[i]));
	pthread_mutex_unlock(&events.lock);
}
