/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_layout: the text of a layout, as hbmctl and programs of others hand it in. A layout
 * has one canonical text, which is read as the same layout.
 */
#include "tests/fuzz/fuzz.h"

#include <hbm/sequence.h>

#include <stdlib.h>
#include <string.h>

static char *canonical(const struct hbm_layout *layout)
{
	size_t size = hbm_layout_print(layout, NULL, 0) + 1;
	char *text = malloc(size);

	fuzz_check(text != NULL && hbm_layout_print(layout, text, size) == size - 1);

	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hbm_layout *layout = NULL, *again = NULL;
	char error[256] = "", names[2][HBM_WIRE_NAME_BYTES], *text = fuzz_text(data, size);
	int r = hbm_layout_parse(&layout, text, error, sizeof(error));

	free(text);
	if (r != 0) {
		fuzz_check(!layout && error[0] != '\0');
		return 0;
	}

	text = canonical(layout);
	if (hbm_layout_parse(&again, text, error, sizeof(error)) != 0)
		fuzz_fail("its canonical text is refused: %s\n%s", error, text);

	char *same = canonical(again);
	hbm_layout_fingerprint(layout, names[0]);
	hbm_layout_fingerprint(again, names[1]);
	if (strcmp(text, same) != 0 || strcmp(names[0], names[1]) != 0)
		fuzz_fail("two texts or names of one layout:\n%s\n%s\n%s\n%s", text, same, names[0],
			  names[1]);

	hbm_layout_free(layout);
	hbm_layout_free(again);
	free(text);
	free(same);

	return 0;
}
