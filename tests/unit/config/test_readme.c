/* README.md: its table of options is the program's. UPDATE=1 in the environment writes it anew. */
#include "unit/config/loaded.h"

#define README	   "README.md" /* tests run from the root of the tree */
#define README_MAX (1u << 20)
#define BEGIN	   "<!-- options -->\n"
#define END	   "<!-- /options -->\n"

struct readme {
	struct buf text;
	const char *table, *rest; /* what is between the marks; the second mark and all behind it */
};

static void read_readme(struct readme *readme)
{
	FILE *file = fopen(README, "re");

	if (!file)
		fail_msg("no " README " here: run the tests from the root of the tree");
	buf_init(&readme->text, README_MAX);
	for (int byte = getc(file); byte != EOF; byte = getc(file))
		assert_int_equal(buf_append_byte(&readme->text, (uint8_t)byte), 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(buf_append_byte(&readme->text, '\0'), 0);

	const char *begin = strstr((const char *)readme->text.data, BEGIN);

	assert_non_null(begin);
	readme->table = begin + strlen(BEGIN);
	readme->rest = strstr(readme->table, END);
	assert_non_null(readme->rest);
}

static void write_readme(const struct readme *readme, struct span table)
{
	const char *text = (const char *)readme->text.data;
	FILE *file = fopen(README, "we");

	assert_non_null(file);
	fprintf(file, "%.*s%.*s%s", (int)(readme->table - text), text, SPAN_ARGS(table),
		readme->rest);
	assert_int_equal(fclose(file), 0);
}

static void readme_has_the_programs_table(void **state)
{
	(void)state;
	struct readme readme;
	struct buf table;

	read_readme(&readme);
	buf_init(&table, README_MAX);
	assert_int_equal(config_write_markdown(&table), 0);

	struct span there = span_make(readme.table, (size_t)(readme.rest - readme.table));
	bool is_same = span_equal(there, buf_span(&table));

	if (!is_same && getenv("UPDATE")) {
		write_readme(&readme, buf_span(&table));
		is_same = true;
	}
	buf_finish(&table);
	buf_finish(&readme.text);
	if (!is_same)
		fail_msg("the options in " README " are not the program's: "
			 "UPDATE=1 make unit-room ROOM=config writes them");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readme_has_the_programs_table),
	};

	return cmocka_run_group_tests_name("readme", tests, NULL, NULL);
}
