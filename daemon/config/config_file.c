/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file: reading values into a config, from a file and its folder or from one
 * --set.
 *
 * A file is read into a copy, which replaces the config only if the whole file is valid.
 * libinih parses the lines; we pass them one by one, so that we know the number of an
 * invalid line.
 */
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/config.h"
#include "daemon/config/config_error.h"
#include "daemon/config/config_keys.h"
#include "daemon/config/config_tenant.h"

/* "socket, socket_mode, ..." of a section, or the sections themselves if section is NULL. */
static void config_file_list_names(const char *section, char *list, size_t size)
{
	list[0] = '\0';
	const char *last = "";
	for (size_t i = 0; i < config_keys_count; i++) {
		const char *name = section ? config_keys[i].name : config_keys[i].section;
		if ((section && strcmp(section, config_keys[i].section) != 0) ||
		    strcmp(name, last) == 0)
			continue;

		size_t length = strlen(list);
		snprintf(list + length, size - length, "%s%s", length ? ", " : "", name);
		last = name;
	}
}

static bool config_file_is_section(const char *section)
{
	for (size_t i = 0; i < config_keys_count; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

/* "match, share, ..." of a tenant. */
static void config_file_list_tenant_keys(char *list, size_t size)
{
	size_t length = 0;

	list[0] = '\0';
	for (size_t i = 0; i < config_tenant_keys_count && length < size; i++)
		length += (size_t)snprintf(list + length, size - length, "%s%s", i ? ", " : "",
					   config_tenant_keys[i].name);
}

static int config_file_refuse_section(const char *where, const char *section, char *error,
				      size_t error_size)
{
	char names[256];
	config_file_list_names(NULL, names, sizeof(names));
	return config_refuse(error, error_size,
			     "%s: unknown section '%s', expected one of: %s, tenant NAME", where,
			     section, names);
}

/* A value to be set. */
struct target {
	const struct config_key *key;
	const char *name; /* as it was given */
	void *field;
	struct config_tenant *tenant; /* of a tenant, or NULL */
};

static int config_file_find_tenant(struct config *config, const char *where, const char *section,
				   const char *name, struct target *target, char *error,
				   size_t error_size)
{
	char names[512];
	void *field;
	struct config_tenant *tenant = config_tenant_of(config, section, where, error, error_size);
	if (!tenant)
		return -EINVAL;

	const struct config_key *key = config_tenant_key(tenant, name, &field);
	if (!key) {
		config_file_list_tenant_keys(names, sizeof(names));
		return config_refuse(error, error_size,
				     "%s: unknown key '%s' in section [%s], expected one of: %s",
				     where, name, section, names);
	}

	*target = (struct target){key, name, field, tenant};

	return 0;
}

/* Looks up a key; NULL, and a sentence in error, if there is none. `where` starts the
 * sentence. */
static const struct config_key *config_file_find_key(const char *where, const char *section,
						     const char *name, char *error,
						     size_t error_size)
{
	for (size_t i = 0; i < config_keys_count; i++)
		if (strcmp(config_keys[i].section, section) == 0 &&
		    strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];

	if (config_file_is_section(section)) {
		char names[512];
		config_file_list_names(section, names, sizeof(names));
		config_refuse(error, error_size,
			      "%s: unknown key '%s' in section [%s], expected one of: %s", where,
			      name, section, names);
	} else if (*section == '\0') {
		config_refuse(error, error_size, "%s: '%s' stands before any [section]", where,
			      name);
	} else {
		config_file_refuse_section(where, section, error, error_size);
	}

	return NULL;
}

/* The same of any section; a section of a tenant is made if it is new. */
static int config_file_find(struct config *config, const char *where, const char *section,
			    const char *name, struct target *target, char *error, size_t error_size)
{
	if (config_tenant_is_section(section))
		return config_file_find_tenant(config, where, section, name, target, error,
					       error_size);

	const struct config_key *key =
		config_file_find_key(where, section, name, error, error_size);
	if (!key)
		return -EINVAL;

	*target = (struct target){key, name, config_field(config, key), NULL};

	return 0;
}

static int config_file_set_value(const struct target *target, const char *section, const char *text,
				 const char *where, char *error, size_t error_size)
{
	const struct config_key *key = target->key;
	int r = value_parse(&key->kind, text, target->field);
	if (r == -EINVAL) {
		char sentence[256];
		value_expected(&key->kind, text, sentence, sizeof(sentence));
		config_refuse(error, error_size, "%s: %s.%s: got '%s', expected %s", where, section,
			      target->name, text, sentence);
	} else if (r < 0) {
		config_refuse(error, error_size, "%s: out of memory", where);
	}

	return r;
}

int config_set(struct config *config, const char *assignment, char *error, size_t error_size)
{
	char section[64], name[64];
	struct target target;
	size_t dot = strcspn(assignment, ".="), equals = strcspn(assignment, "=");
	if (assignment[dot] != '.' || assignment[equals] != '=' || dot >= sizeof(section) ||
	    equals - dot - 1 >= sizeof(name))
		return config_refuse(error, error_size,
				     "--set: got '%s', expected section.key=value", assignment);

	snprintf(section, sizeof(section), "%.*s", (int)dot, assignment);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), assignment + dot + 1);
	int r = config_file_find(config, "--set", section, name, &target, error, error_size);
	if (r < 0)
		return r;

	return config_file_set_value(&target, section, assignment + equals + 1, "--set", error,
				     error_size);
}

/* A file being read. */
struct reading {
	struct config *config;
	const char *path;
	FILE *file;
	int line;
	bool seen[CONFIG_KEYS_MAX]; /* in this file */
	bool pending;               /* the line asks for a value, which libinih has not found */
	int result;                 /* the first failure */
	bool cut;                   /* nothing more can be read */
	char unknown[64]; /* the last section that was refused; its keys are passed over */
	char *error;
	size_t error_size;
};

static void config_file_where(const struct reading *reading, char *text, size_t size)
{
	snprintf(text, size, "%s:%d", reading->path, reading->line);
}

/* libinih does not report a section without keys. */
static void config_file_check_section(struct reading *reading, const char *line)
{
	char name[64], end, place[4200];
	if (sscanf(line, "[%63[^]\n]%c", name, &end) != 2 || end != ']' ||
	    config_file_is_section(name))
		return;

	config_file_where(reading, place, sizeof(place));
	if (!config_tenant_is_section(name))
		reading->result = config_file_refuse_section(place, name, reading->error,
							     reading->error_size);
	else if (config_tenant_of(reading->config, name, place, reading->error,
				  reading->error_size))
		return;
	else
		reading->result = -EINVAL;

	snprintf(reading->unknown, sizeof(reading->unknown), "%s", name);
}

/* libinih goes on after a line it cannot take apart, and tells of the first only. */
static void config_file_check_parsed(struct reading *reading)
{
	if (!reading->pending)
		return;

	reading->pending = false;
	reading->result = config_refuse(reading->error, reading->error_size,
					"%s:%d: expected [section], key = value or # comment",
					reading->path, reading->line);
}

/* A byte order mark may open a file. */
static bool config_file_asks_for_value(const char *line)
{
	if (strncmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3;
	return line[0] != '[' ? !strchr(";#\r\n\f\v", line[0]) : !strchr(line, ']');
}

/* Passes libinih the next line without leading white space, which it would take for a
 * continuation. */
static char *config_file_next_line(char *line, int size, void *arg)
{
	struct reading *reading = arg;

	config_file_check_parsed(reading);
	if (reading->cut || !fgets(line, size, reading->file))
		return NULL;

	reading->line++;
	size_t length = strlen(line);
	if ((length == 0 || line[length - 1] != '\n') && !feof(reading->file)) {
		reading->result = config_refuse(reading->error, reading->error_size,
						"%s:%d: got a longer line, expected at most %d "
						"characters and no zero bytes",
						reading->path, reading->line, size - 2);
		reading->cut = true;
		return NULL;
	}

	size_t indent = strspn(line, " \t");
	memmove(line, line + indent, length - indent + 1);
	config_file_check_section(reading, line);
	reading->pending = config_file_asks_for_value(line);

	return line;
}

/* Whether this file has given that value already; from now on it has. */
static bool config_file_see(struct reading *reading, const struct target *target)
{
	if (target->tenant)
		return config_tenant_see(target->tenant, target->key, target->field);

	bool *seen = &reading->seen[target->key - config_keys], before = *seen;
	*seen = true;

	return before;
}

static int config_file_on_pair(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *reading = arg;
	struct target target;
	char place[4200];

	reading->pending = false;
	if (*section && strcmp(section, reading->unknown) == 0)
		return 1;

	config_file_where(reading, place, sizeof(place));
	int r = config_file_find(reading->config, place, section, name, &target, reading->error,
				 reading->error_size);
	if (r == 0 && config_file_see(reading, &target))
		r = config_refuse(reading->error, reading->error_size,
				  "%s: %s.%s is given a second time", place, section, name);
	else if (r == 0)
		r = config_file_set_value(&target, section, value, place, reading->error,
					  reading->error_size);

	if (reading->result == 0)
		reading->result = r;

	return 1;
}

static int config_file_read_file(struct config *config, const char *path, char *error,
				 size_t error_size)
{
	FILE *file = fopen(path, "re");
	if (!file) {
		int r = -errno;
		config_refuse(error, error_size, "%s: %s", path, strerror(-r));
		return r;
	}

	struct reading reading = {.config = config,
				  .path = path,
				  .file = file,
				  .error = error,
				  .error_size = error_size};
	config_tenants_unsee(config);
	int line = ini_parse_stream(config_file_next_line, &reading, config_file_on_pair, &reading);
	int failed = ferror(file) ? -EIO : 0;
	fclose(file);

	config_file_check_parsed(&reading);
	if (line > 0 && reading.result == 0)
		return config_refuse(error, error_size, "%s:%d: cannot be taken apart", path, line);

	if (reading.result < 0)
		return reading.result;

	if (failed) {
		config_refuse(error, error_size, "%s: cannot be read", path);
		return failed;
	}

	return 0;
}

static int config_file_is_conf(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);
	return entry->d_name[0] != '.' && length > 5 &&
	       strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* By bytes: the order must not depend on the locale. */
static int config_file_by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int config_file_read_folder(struct config *config, const char *path, char *error,
				   size_t error_size)
{
	struct dirent **entries;
	int count = scandir(path, &entries, config_file_is_conf, config_file_by_name);
	if (count < 0 && errno == ENOENT)
		return 0;

	if (count < 0) {
		int failed = -errno;
		config_refuse(error, error_size, "%s: %s", path, strerror(-failed));
		return failed;
	}

	int r = 0;
	for (int i = 0; i < count; i++) {
		char *file;
		int one = -ENOMEM;
		if (asprintf(&file, "%s/%s", path, entries[i]->d_name) < 0) {
			config_refuse(error, error_size, "%s: out of memory", path);
		} else {
			one = config_file_read_file(config, file, error, error_size);
			free(file);
		}

		r = r < 0 ? r : one;
		free(entries[i]);
	}

	free(entries);

	return r;
}

int config_read(struct config *config, const char *path, char *error, size_t error_size)
{
	struct config next;
	char *folder;
	int r = config_copy(&next, config);
	if (r == 0 && asprintf(&folder, "%s.d", path) < 0) {
		config_clear(&next);
		r = -ENOMEM;
	}

	if (r < 0) {
		config_refuse(error, error_size, "%s: out of memory", path);
		return r;
	}

	r = config_file_read_file(&next, path, error, error_size);
	if (r != -ENOENT) {
		int in_folder = config_file_read_folder(&next, folder, error, error_size);
		r = r < 0 ? r : in_folder;
	}

	free(folder);

	if (r < 0) {
		config_clear(&next);
		return r;
	}

	config_clear(config);
	*config = next;

	return 0;
}
