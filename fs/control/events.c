/* SPDX-License-Identifier: MIT */
/* Keeps log lines as JSON in a ring, which every follower reads at its own pace. Lines
 * are made only while somebody follows; a follower that falls behind is told how many
 * lines it has missed. */
#include "control/events.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/stamp.h"
#include "base/syslog.h"
#include "control/socket.h"
#include "report/report.h"

#define EVENTS_RING    1024
#define EVENTS_SECONDS 1 /* then it checks whether the follower is still there */

static struct {
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t more;
	_Atomic unsigned followers;
	/* Under lock: */
	bool ended;
	struct event {
		uid_t uid; /* the user whose program it is about; -1: no user's */
		char *text;
	} ring[EVENTS_RING];
	uint64_t next; /* number of the next event */
} events = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char *event_text(uid_t uid, const char *event, const struct fs_field *fields)
{
	struct jsonl_report *o = jsonl_report_object();
	char stamp[JSONL_STAMP];
	char *text;

	jsonl_stamp_text_now(3, stamp);
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

/* Returns the user whose program the event is about, as its line says. */
static uid_t event_uid(const struct fs_field *fields)
{
	for (; fields->key; fields++)
		if (strcmp(fields->key, "uid") == 0 && !fields->string)
			return (uid_t)fields->number;
	return (uid_t)-1;
}

static void events_tap(int priority, uid_t uid, const char *event,
		       const struct fs_field *fields)
{
	struct event *place;
	char *text;

	if (!events.followers || priority == LOG_DEBUG)
		return;
	text = event_text(uid, event, fields);
	pthread_mutex_lock(&events.lock);
	place = &events.ring[events.next++ % EVENTS_RING];
	free(place->text);
	*place = (struct event){event_uid(fields), text}; /* NULL: missed */
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
	fs_syslog_tap(events_tap);
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

/* Returns the next event for a follower at *cursor, to be freed; NULL: none has come for
 * a while, or the last one has. *missed: how many are gone. */
static char *event_wait(uid_t uid, uint64_t *cursor, uint64_t *missed)
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
		const struct event *e = &events.ring[(*cursor)++ % EVENTS_RING];

		if (uid != FS_CONTROL_EVENTS_ALL && e->uid != uid)
			continue;
		text = e->text;
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

uint64_t fs_control_events_begin(void)
{
	uint64_t cursor;

	pthread_mutex_lock(&events.lock);
	cursor = events.next;
	events.followers++;
	pthread_mutex_unlock(&events.lock);
	return cursor;
}

void fs_control_events_follow(int fd, uid_t uid, uint64_t cursor)
{
	uint64_t missed = 0;
	bool good = true, ended = false;

	while (good && !ended) {
		cleanup_free char *text = event_wait(uid, &cursor, &missed);

		good = tell_missed(fd, &missed) && (text ? tell(fd, text) : !is_gone(fd));
		pthread_mutex_lock(&events.lock);
		ended = events.ended && cursor == events.next;
		pthread_mutex_unlock(&events.lock);
	}
	pthread_mutex_lock(&events.lock);
	events.followers--;
	for (size_t i = 0; !events.followers && i < EVENTS_RING; i++)
		free(steal_ptr(&events.ring[i].text));
	pthread_mutex_unlock(&events.lock);
}
