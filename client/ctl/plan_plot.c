/* SPDX-License-Identifier: Apache-2.0 */
/* plan_plot: see plan_plot.h. The script goes to gnuplot's standard input and the
 * picture comes from its standard output, both through files in memory, so that
 * neither side ever waits for the other. */
#include "client/ctl/plan_plot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_GNUPLOT 127 /* exit status with some C libraries if the program does not exist */

static bool plan_plot_ends_in(const char *path, const char *end)
{
	size_t length = strlen(path), end_length = strlen(end);
	return length > end_length && strcmp(path + length - end_length, end) == 0;
}

int plan_plot_check(const struct ctl *ctl, const char *path, const struct plan_request *request)
{
	if (!plan_plot_ends_in(path, ".svg") && !plan_plot_ends_in(path, ".png"))
		return ctl_usage(ctl, "--plot is \"%s\": expected a name that ends in .svg or .png",
				 path);

	if (request->context_count < 2)
		return ctl_usage(ctl,
				 "--plot takes several context lengths, such as --context 4K..1M");

	return CTL_DONE;
}

/* A string of gnuplot: what is in it stays text. */
static void plan_plot_print_text(FILE *script, const char *text)
{
	putc('\'', script);
	for (; *text; text++) {
		if (*text == '\'')
			putc('\'', script);
		putc(*text == '\n' ? ' ' : *text, script);
	}

	putc('\'', script);
}

/* context, concurrency, prefill, decode, switch, duplex, NVMe. A logarithmic scale has
 * no 0: no users are drawn below one. */
static void plan_plot_print_data(FILE *script, const struct plan_request *request,
				 const struct plan_point *points)
{
	fputs("$points << END\n", script);
	for (size_t i = 0; i < request->context_count; i++) {
		const struct plan_point *p = &points[i];
		fprintf(script, "%" PRIu64 " %.9g %.9g %.9g %.9g %.9g %.9g\n", p->context,
			(double)p->concurrency, p->prefill_s, p->decode_s, p->switch_s,
			p->switch_duplex_s, p->nvme.serial_s);
	}

	fputs("END\n", script);
}

static const char style[] =
	"set encoding utf8\n"
	"set style line 1 lc rgb '#1b6ca8' lw 2.5 pt 7 ps 0.6\n"
	"set style line 2 lc rgb '#d1495b' lw 2.5 pt 7 ps 0.6\n"
	"set style line 3 lc rgb '#edae49' lw 2.5 pt 7 ps 0.6\n"
	"set style line 4 lc rgb '#3d8361' lw 2.5 pt 7 ps 0.6\n"
	"set border 3 lc rgb '#555555'\n"
	"set grid lc rgb '#dddddd' lt 1\n"
	"set tics nomirror\n"
	"set logscale xy\n"
	"set xlabel 'context, tokens (K = 1,000)'\n"
	"set xtics ('1' 1, '10' 10, '100' 100, '1K' 1e3, '10K' 1e4, '100K' 1e5, '1M' 1e6, '10M' "
	"1e7, '100M' 1e8, '1000M' 1e9)\n"
	"set format y '%g'\n"
	"set key top left reverse Left\n";

static void plan_plot_print_panels(FILE *script, const struct plan_request *request)
{
	const struct plan_hardware *hardware = &request->hardware;

	fputs("set title 'Concurrency: users in HBM'\n"
	      "set key off\nset yrange [0.4:10<*]\nset ytics add ('0' 0.5)\n"
	      "plot $points using 1:($2 > 0 ? $2 : 0.5) with linespoints ls 1\n"
	      "set yrange [*:*]\nset ytics autofreq\n"
	      "set title 'Prefill, seconds'\n"
	      "plot $points using 1:3 with linespoints ls 2\n",
	      script);
	fprintf(script,
		"set title 'Decode of %" PRIu64 " tokens, seconds'\n"
		"unset logscale y\nset yrange [0:*]\n"
		"plot $points using 1:4 with linespoints ls 3\n",
		request->load.output_tokens);
	fputs("set title 'Context switch, seconds'\n"
	      "set key on\nset logscale y\nset yrange [*:*]\n"
	      "plot $points using 1:5 with linespoints ls 4 title 'host memory, out and in', "
	      "$points using 1:6 with linespoints ls 1 title 'host memory, full duplex'",
	      script);
	if (hardware->nvme_bytes)
		fputs(", $points using 1:7 with linespoints ls 2 title 'NVMe, out and in'", script);

	fputs("\nunset multiplot\n", script);
}

static void plan_plot_print_script(FILE *script, const char *path,
				   const struct plan_request *request,
				   const struct plan_point *points)
{
	char title[192];

	snprintf(title, sizeof(title), "%s on %" PRIu32 " x %s", request->model.name,
		 request->hardware.gpus, request->gpu ? request->gpu->name : "GPU");
	fputs(plan_plot_ends_in(path, ".svg")
		      ? "set terminal svg size 1000,760 background rgb 'white' font 'Helvetica,13' "
			"noenhanced\n"
		      : "set terminal pngcairo size 1000,760 font 'Sans,10' noenhanced\n",
	      script);
	plan_plot_print_data(script, request, points);
	fputs(style, script);
	fputs("set multiplot layout 2,2 title ", script);
	plan_plot_print_text(script, title);
	fputs("\n", script);
	plan_plot_print_panels(script, request);
}

/* A stream of its own for the script, so that what is written ends where gnuplot
 * begins to read. */
static int plan_plot_write_script(int fd, const char *path, const struct plan_request *request,
				  const struct plan_point *points)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *script = copy >= 0 ? fdopen(copy, "w") : NULL;

	if (!script) {
		if (copy >= 0)
			close(copy);
		return -1;
	}

	plan_plot_print_script(script, path, request, points);

	bool bad = ferror(script);

	return fclose(script) != 0 || bad || lseek(fd, 0, SEEK_SET) != 0 ? -1 : 0;
}

/* gnuplot's wait status, or -1 and errno. */
static int plan_plot_run_gnuplot(int script, int picture)
{
	static char name[] = "gnuplot";
	char *const arguments[] = {name, NULL};
	posix_spawn_file_actions_t actions;

	if ((errno = posix_spawn_file_actions_init(&actions)) != 0)
		return -1;

	posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, picture, STDOUT_FILENO);
	pid_t pid;
	int r = posix_spawnp(&pid, "gnuplot", &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);

	if (r != 0) {
		errno = r;
		return -1;
	}

	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}

	return status;
}

static int plan_plot_save(int picture, const char *path)
{
	struct stat drawn;
	off_t from = 0;
	int file = fstat(picture, &drawn) == 0
			   ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
			   : -1;

	if (file < 0)
		return ctl_fail("cannot write %s: %s", path, strerror(errno));

	while (from < drawn.st_size) {
		if (sendfile(file, picture, &from, (size_t)(drawn.st_size - from)) <= 0)
			break;
	}

	int saved = errno;
	bool whole = from == drawn.st_size;
	if (close(file) != 0 && whole) {
		saved = errno;
		whole = false;
	}

	return whole ? CTL_DONE : ctl_fail("cannot write %s: %s", path, strerror(saved));
}

static int plan_plot_draw(int script, int picture, const char *path,
			  const struct plan_request *request, const struct plan_point *points)
{
	if (script < 0 || picture < 0 || plan_plot_write_script(script, path, request, points) < 0)
		return ctl_fail("cannot prepare the picture: %s", strerror(errno));

	int status = plan_plot_run_gnuplot(script, picture);
	bool absent = status < 0 ? errno == ENOENT
				 : WIFEXITED(status) && WEXITSTATUS(status) == NO_GNUPLOT;
	if (absent)
		return ctl_fail("--plot needs gnuplot: install Debian's package gnuplot-nox");
	if (status < 0)
		return ctl_fail("cannot run gnuplot: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return ctl_fail("gnuplot failed: see its messages above");

	return plan_plot_save(picture, path);
}

int plan_plot(const char *path, const struct plan_request *request, const struct plan_point *points)
{
	int script = memfd_create("plan-script", MFD_CLOEXEC);
	int picture = memfd_create("plan-picture", MFD_CLOEXEC);
	int r = plan_plot_draw(script, picture, path, request, points);

	if (script >= 0)
		close(script);
	if (picture >= 0)
		close(picture);

	return r;
}
