/* SPDX-License-Identifier: MIT */
/* Shows the values of options as text, and where each comes from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules/config_internal.h"

#define TEXT_MAX 64

/* Formats milliseconds as seconds, without trailing zeros. */
static void millis_text(uint64_t ms, char buf[TEXT_MAX])
{
	int n = snprintf(buf, TEXT_MAX, "%llu.%03llu", (unsigned long long)(ms / 1000),
			 (unsigned long long)(ms % 1000));

	while (buf[n - 1] == '0')
		buf[--n] = '\0';
	if (buf[n - 1] == '.')
		buf[n - 1] = '\0';
}

/* Formats a value as jsonl_option_parse takes it. */
static const char *value_text(const struct jsonl_option *o, const char *field,
			      char buf[TEXT_MAX])
{
	uint64_t number = 0;

	switch (o->type) {
	case OPTION_GLOBS:
	case OPTION_STRING:
		return *(char *const *)field ? *(char *const *)field : "";
	case OPTION_CHOICE:
		return o->values[*(const int *)field];
	case OPTION_SECONDS:
		millis_text((uint64_t)(*(const double *)field * 1000.0 + 0.5), buf);
		return buf;
	case OPTION_FLAG:
		return *(const bool *)field ? "yes" : "no";
	default:
		break;
	}
	number = o->size == sizeof(unsigned) ? *(const unsigned *)field
					     : *(const uint64_t *)field;
	if (o->type == OPTION_MILLIS)
		millis_text(number, buf);
	else if (o->type == OPTION_SIZE)
		(void)jsonl_option_size(number, buf);
	else
		(void)snprintf(buf, TEXT_MAX, "%llu", (unsigned long long)number);
	return buf;
}

static struct jsonl_config_item item_of(const struct jsonl_option *o, const char *field)
{
	struct jsonl_config_item item = {.name = o->name, .kind = JSONL_CONFIG_NUMBER};

	switch (o->type) {
	case OPTION_GLOBS:
	case OPTION_STRING:
	case OPTION_CHOICE:
		item.kind = JSONL_CONFIG_TEXT;
		item.text = value_text(o, field, NULL);
		return item;
	case OPTION_FLAG:
		item.kind = JSONL_CONFIG_FLAG;
		item.number = *(const bool *)field;
		return item;
	case OPTION_SECONDS:
		item.kind = JSONL_CONFIG_MILLIS;
		item.number = (uint64_t)(*(const double *)field * 1000.0 + 0.5);
		return item;
	case OPTION_MILLIS:
		item.kind = JSONL_CONFIG_MILLIS;
		break;
	default:
		break;
	}
	item.number = o->size == sizeof(unsigned) ? *(const unsigned *)field
						  : *(const uint64_t *)field;
	return item;
}

void jsonl_config_each(const struct jsonl_config *config,
		       void (*each)(void *ctx, const struct jsonl_config_item *item),
		       void *ctx)
{
	const struct jsonl_option *o;

	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		struct jsonl_config_item item;

		if (o->rule || o->type == OPTION_FILE)
			continue;
		item = item_of(o, (const char *)config + o->at);
		each(ctx, &item);
	}
}

static void source_of(const struct jsonl_config *config, size_t n,
		      struct jsonl_config_value *value)
{
	value->line = 0;
	value->from = JSONL_CONFIG_DEFAULT;
	if (config->given >> n & 1) {
		value->from = JSONL_CONFIG_OPTION;
	} else if (config->lines[n]) {
		value->from = JSONL_CONFIG_FILE;
		value->line = config->lines[n];
	}
}

void jsonl_config_source(const struct jsonl_config *config, const char *name,
			 struct jsonl_config_value *value)
{
	const struct jsonl_option *o;

	memset(value, 0, sizeof(*value));
	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		if (strcmp(o->name, name) == 0)
			source_of(config, n, value);
	}
	value->name = name;
}

void jsonl_config_explain(const struct jsonl_config *config, const bool *matches,
			  void (*each)(void *ctx, const struct jsonl_config_value *value),
			  void *ctx)
{
	struct jsonl_settings settings = config->file;
	const struct jsonl_option *o;

	for (size_t i = 0; i < config->nrules; i++) {
		if (matches[i])
			jsonl_config_apply(&config->rules[i], &settings);
	}
	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		size_t at = o->at - offsetof(struct jsonl_config, file);
		struct jsonl_config_value value = {.name = o->name};
		char buf[TEXT_MAX];

		if (!jsonl_config_is_per_file(o) || o->rule)
			continue;
		value.text = value_text(o, (const char *)&settings + at, buf);
		source_of(config, n, &value);
		for (size_t i = 0; i < config->nrules; i++) {
			if (!matches[i] || !(config->rules[i].set >> n & 1))
				continue;
			value.from = JSONL_CONFIG_RULE;
			value.line = config->rules[i].line;
			value.rule = i;
		}
		each(ctx, &value);
	}
}

void jsonl_config_rule(const struct jsonl_rule *rule,
		       void (*each)(void *ctx, const struct jsonl_config_value *value),
		       void *ctx)
{
	const struct jsonl_option *o;

	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		size_t at = o->at - offsetof(struct jsonl_config, file);
		struct jsonl_config_value value = {
		    .name = o->name, .from = JSONL_CONFIG_RULE, .line = rule->line};
		char buf[TEXT_MAX];

		if (!(rule->set >> n & 1))
			continue;
		value.text = value_text(o, (const char *)&rule->values + at, buf);
		each(ctx, &value);
	}
}

const char *jsonl_config_standard(const char *name)
{
	const struct jsonl_option *o;

	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		if (strcmp(o->name, name) == 0)
			return o->standard;
	}
	return NULL;
}

void jsonl_config_given(const struct jsonl_config *config,
			void (*each)(void *ctx, const struct jsonl_config_value *value),
			void *ctx)
{
	const struct jsonl_option *o;

	for (size_t n = 0; (o = jsonl_config_option(n)); n++) {
		struct jsonl_config_value value = {.name = o->name,
						   .from = JSONL_CONFIG_OPTION};
		char buf[TEXT_MAX];

		if (!(config->given >> n & 1))
			continue;
		value.text = value_text(o, (const char *)config + o->at, buf);
		each(ctx, &value);
	}
}

/* ---- for -h ---- */

static void help_option(FILE *to, const struct jsonl_option *o)
{
	char left[64], list[128];

	if (o->type == OPTION_FLAG)
		snprintf(left, sizeof(left), "%s%s%s", o->name, o->negative ? ", " : "",
			 o->negative ? o->negative : "");
	else
		snprintf(left, sizeof(left), "%s=%s", o->name, o->arg);
	fprintf(to, "    -o %-26s %s", left, o->help);
	if (o->type == OPTION_CHOICE)
		fprintf(to, " [%s]", jsonl_option_values(o, list));
	if (o->standard && o->type == OPTION_FLAG)
		fprintf(to, " (default: %s)",
			strcmp(o->standard, "yes") == 0 ? o->name
			: o->negative			? o->negative
							: "off");
	else if (o->standard)
		fprintf(to, " (default: %s)", o->standard[0] ? o->standard : "none");
	fputc('\n', to);
}

void jsonl_config_help(FILE *to)
{
	const struct jsonl_option *o;

	for (size_t i = 0; (o = jsonl_config_option(i)); i++) {
		if (!o->rule)
			help_option(to, o);
	}
}
