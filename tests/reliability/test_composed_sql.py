"""The checker of composed SQL: planted statements are found, by whatever way the text comes; fixed ones are not."""

import pytest

from reliability.composed_sql import Checker, Module
from reliability.sql_payloads import PAYLOADS, WAYS, harmless, payload

COMPOSED = [
    "def find(c, name): c.execute(f\"SELECT * FROM t WHERE name = '{name}'\")\nfind(None, input())",
    "def find(c, name): c.execute('SELECT * FROM t WHERE name = ' + name)\nfind(None, name=input())",
    "def find(c, name): c.execute('SELECT %s' % name)\nfind(None, *input())",
    "def find(c, name): c.execute('SELECT {}'.format(name))\nfor each in input(): find(None, each)",
    "def find(c, names): c.execute(' '.join(['SELECT', *names]))\nfind(None, open('x'))",
    "def find(c, names):\n    text = 'SELECT '\n    for name in names: text += name\n"
    "    c.execute(text)\nfind(0, input())",
    "def find(c): c.executemany(c.execute('SELECT sql FROM sqlite_schema').get, [])",
    "class A:\n    def read(self, text): self.c.execute(text)\nclass B(A):\n"
    "    def find(self, x): self.read(x)\nB().find(input())",
    "def inner(c, text): c.execute(text)\ndef outer(c, text): inner(c, text)\nouter(None, input())",
    "def find(c):\n    c.execute(made())\ndef made(): return 'SELECT ' + input()",
    "def find(c):\n    run = c.execute\n    run(input())",
    "def find(c, row): c.execute(row.text)",
    "def find(c, key): c.execute({'a': input()}[key])",
    "def find(c, text): c.execute(text if text else 'SELECT 1')\nfind(0, input())",
    "def find(c): c.pragma(input(), 1)",
    "def find(c):\n    with open('x') as text: c.execute(text)",
    "def find(c): c.execute(''.join(str(each) for each in input()))",
    "def find(c): c.execute((text := input()))",
    "def find(c): c.execute(statement=input())",
    "TEXT = 'SELECT 1' + __import__('os').environ['X']\ndef find(c): c.execute(TEXT)",
    "def find(c, text='SELECT 1'): c.execute(text)\nfind(0, input())",
]
FIXED = [
    "TABLE = 't'\nTEXT = f'SELECT * FROM {TABLE}'\ndef find(c, name): c.execute(f'{TEXT} WHERE name = ?', (name,))",
    "def find(c, names): c.execute(f\"SELECT * FROM t WHERE name IN ({', '.join('?' * len(names))})\", names)",
    "def find(c, n: int): c.execute(f'PRAGMA user_version = {n}')",
    "def find(c, n): c.execute(f'PRAGMA max_page_count = {int(n)}')",
    "FORM = 'CREATE TRIGGER {table}'\ndef make(c):\n    for table in ('a', 'b'): c.execute(FORM.format(table=table))",
    "TEXTS = {'a': 'SELECT 1', 'b': 'SELECT 2'}\ndef find(c, which): c.execute(TEXTS[which])",
    "class A:\n    def read(self, text): self.c.execute(text)\nclass B(A):\n    def find(self): self.read('SELECT 1')",
    "class A:\n    def read(self, text): self.c.execute(text)\nclass Other:\n    def go(self): self.read(input())",
    "def columns(names): return ', '.join(f't.{name}' for name in names.split(', '))\n"
    "def find(c): c.execute(columns('a, b'))",
    "def find(c, some): c.execute('SELECT 1' if some else 'SELECT 2')",
]


def check(**sources):
    return Checker({name: Module.of(name, source) for name, source in sources.items()})


@pytest.mark.parametrize("source", COMPOSED)
def test_a_composed_statement_is_found(source):
    assert check(planted=source).check()


@pytest.mark.parametrize("source", FIXED)
def test_a_fixed_statement_is_not(source):
    checker = check(sound=source)
    assert checker.check() == [] and checker.statements == 1


def test_constants_and_functions_of_other_modules_are_followed():
    reads = "from a import TEXT, read\nimport a\ndef find(c): c.execute(TEXT); read(c, TEXT)"
    texts = "def read(c, text): c.execute(text)\nTEXT = {}"
    assert check(a=texts.format("'SELECT 1'"), b=reads).check() == []
    (found,) = {str(each) for each in check(a=texts.format("input()"), b=reads).check()}
    assert found.startswith("a:2: ")
    assert check(a=texts.format("'SELECT 1'"), b=reads, c="from a import read\nread(0, input())").check()


def test_a_twin_has_no_quote_and_no_word_of_sql():
    for number in range(len(PAYLOADS) * WAYS):
        text, twin = payload(number), harmless(payload(number))
        assert f"x3-{number}" in text and not set(twin) & set("'\"`;()=*|<>[]{}") and "--" not in twin
    assert len({payload(number) for number in range(10_000)}) == 10_000
