"""Short programs that answers show; the tests run those whose language is at hand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """`topic` is a pattern for prompts, empty for what a language shows when no topic fits."""

    topic: str
    language: str
    code: str
    note: str


_REVERSE, _PRIME, _PALINDROME = r"\brevers", r"\bprimes?\b", r"palindrom"
_FIBONACCI, _FIZZBUZZ, _SEARCH = r"fibonacci", r"fizz ?buzz", r"binary search"
_COUNT = r"(?:word|letter)s? (?:count|frequenc)|count(?:s|ing)? (?:the )?words?"
_CSV, _FETCH = r"\bcsv\b", r"\b(?:fetch|http|api)\b"
_RETRY, _EMAIL, _DEBOUNCE = r"\bretr(?:y|ies)\b|backoff", r"e-?mail", r"debounce"
_TOP, _FILES, _CENTRE = r"\btop\b|customers?|orders?|group by|sales", r"\bfiles?\b|disk", r"cent(?:er|re)"
_DEDUPE = r"duplicat|unique"

SNIPPETS = (
    Snippet(
        _FIBONACCI,
        "python",
        """\
from collections.abc import Iterator
from itertools import islice


def fibonacci() -> Iterator[int]:
    a, b = 0, 1
    while True:
        yield a
        a, b = b, a + b


print(list(islice(fibonacci(), 10)))  # [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]""",
        "A generator gives as many numbers as you ask for and keeps only two of them in memory.",
    ),
    Snippet(
        _FIBONACCI,
        "javascript",
        """\
function* fibonacci() {
  let [a, b] = [0, 1];
  while (true) {
    yield a;
    [a, b] = [b, a + b];
  }
}

const numbers = fibonacci();
console.log(Array.from({ length: 10 }, () => numbers.next().value));""",
        "A generator function gives as many numbers as you ask for.",
    ),
    Snippet(
        _FIBONACCI,
        "go",
        """\
package main

import "fmt"

func fibonacci(n int) []int {
	numbers := make([]int, 0, n)
	for a, b := 0, 1; len(numbers) < n; a, b = b, a+b {
		numbers = append(numbers, a)
	}
	return numbers
}

func main() {
	fmt.Println(fibonacci(10)) // [0 1 1 2 3 5 8 13 21 34]
}""",
        "Parallel assignment in the loop does without a third variable.",
    ),
    Snippet(
        _REVERSE,
        "python",
        """\
def reverse(text: str) -> str:
    return text[::-1]


assert reverse("router") == "retuor\"""",
        "A slice with step -1 walks backwards; `reversed()` does the same lazily.",
    ),
    Snippet(
        _REVERSE,
        "javascript",
        """\
const reverse = (text) => [...text].reverse().join("");

console.assert(reverse("router") === "retuor");""",
        "Spreading splits by code point, so an emoji survives where `split('')` would break it.",
    ),
    Snippet(
        _REVERSE,
        "java",
        """\
static String reverse(String text) {
    return new StringBuilder(text).reverse().toString();
}""",
        "`StringBuilder.reverse` keeps surrogate pairs together.",
    ),
    Snippet(
        _PALINDROME,
        "python",
        """\
def is_palindrome(text: str) -> bool:
    letters = [char.casefold() for char in text if char.isalnum()]
    return letters == letters[::-1]


assert is_palindrome("A man, a plan, a canal: Panama")
assert not is_palindrome("router")""",
        "Signs and case are dropped first; then the list is compared with itself backwards.",
    ),
    Snippet(
        _PRIME,
        "python",
        """\
def primes_below(limit: int) -> list[int]:
    is_prime = bytearray([1]) * max(limit, 2)
    is_prime[0] = is_prime[1] = 0
    for n in range(2, int(limit**0.5) + 1):
        if is_prime[n]:
            is_prime[n * n :: n] = bytes(len(is_prime[n * n :: n]))
    return [n for n in range(limit) if is_prime[n]]


assert primes_below(30) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]""",
        "The sieve of Eratosthenes crosses out multiples and never divides.",
    ),
    Snippet(
        _FIZZBUZZ,
        "python",
        """\
def fizzbuzz(n: int) -> str:
    return "Fizz" * (n % 3 == 0) + "Buzz" * (n % 5 == 0) or str(n)


assert [fizzbuzz(n) for n in (1, 3, 5, 15)] == ["1", "Fizz", "Buzz", "FizzBuzz"]""",
        "Text times a truth value is the text or nothing; `or` falls back to the number.",
    ),
    Snippet(
        _SEARCH,
        "python",
        """\
from bisect import bisect_left


def find(numbers: list[int], wanted: int) -> int | None:
    \"""Index of `wanted` in sorted `numbers`.\"""
    at = bisect_left(numbers, wanted)
    return at if at < len(numbers) and numbers[at] == wanted else None


assert find([2, 3, 5, 7, 11], 7) == 3
assert find([2, 3, 5, 7, 11], 6) is None""",
        "The standard library has the search; only the check for a hit is ours.",
    ),
    Snippet(
        _SEARCH,
        "javascript",
        """\
function find(numbers, wanted) {
  let [low, high] = [0, numbers.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] === wanted) return middle;
    if (numbers[middle] < wanted) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

console.assert(find([2, 3, 5, 7, 11], 7) === 3);""",
        "Each round halves what is left: 20 rounds are enough for a million numbers.",
    ),
    Snippet(
        _COUNT,
        "python",
        """\
import re
from collections import Counter


def word_counts(text: str) -> Counter[str]:
    return Counter(re.findall(r"\\w+", text.casefold()))


assert word_counts("The cat and the dog").most_common(1) == [("the", 2)]""",
        "`Counter` is a dictionary that counts, with `most_common` for the ranking.",
    ),
    Snippet(
        _CSV,
        "python",
        """\
import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path


def totals(path: Path) -> dict[str, Decimal]:
    \"""Sum of column `amount` for each value of column `team`.\"""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sums[row["team"]] += Decimal(row["amount"])
    return dict(sums)""",
        "`newline=''` lets the csv module deal with line ends; money stays exact as `Decimal`.",
    ),
    Snippet(
        _DEDUPE,
        "python",
        """\
def unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))


assert unique(["b", "a", "b"]) == ["b", "a"]""",
        "A dictionary keeps the order of insertion, so the first of each stays where it was.",
    ),
    Snippet(
        _RETRY,
        "python",
        """\
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def with_retries(call: Callable[[], T], tries: int = 4, base_s: float = 0.5) -> T:
    for attempt in range(tries - 1):
        try:
            return call()
        except ConnectionError:
            time.sleep(random.uniform(0, base_s * 2**attempt))
    return call()


assert with_retries(lambda: 42) == 42""",
        "Pauses double and are random (“full jitter”), so that clients do not come back all at once.",
    ),
    Snippet(
        _EMAIL,
        "python",
        """\
import re

EMAIL = re.compile(r"[^@\\s]+@[^@\\s]+\\.[^@\\s]+")


def looks_like_email(text: str) -> bool:
    return EMAIL.fullmatch(text) is not None


assert looks_like_email("ada@example.com")
assert not looks_like_email("ada@example")""",
        "A pattern can only say that it looks right; a message that arrives is the proof.",
    ),
    Snippet(
        _FETCH,
        "javascript",
        """\
async function getJson(url, { timeoutMs = 5000 } = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
  if (!response.ok) throw new Error(`${response.status} from ${url}`);
  return response.json();
}""",
        "`fetch` does not fail on a 404 or 500 by itself, hence the check; the signal ends a call that hangs.",
    ),
    Snippet(
        _FETCH,
        "python",
        """\
import json
from urllib.request import Request, urlopen


def get_json(url: str, timeout_s: float = 5) -> object:
    request = Request(url, headers={"accept": "application/json"})
    with urlopen(request, timeout=timeout_s) as response:
        return json.load(response)""",
        "Standard library only; the timeout is what people forget.",
    ),
    Snippet(
        _FETCH,
        "bash",
        """\
curl --fail --silent --show-error --max-time 5 \\
  -H "Authorization: Bearer $API_KEY" \\
  https://example.com/v1/models""",
        "`--fail` turns an error status into an exit code, so that a script notices.",
    ),
    Snippet(
        _DEBOUNCE,
        "javascript",
        """\
function debounce(call, waitMs) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...args), waitMs);
  };
}""",
        "Only the last of a burst of calls runs, once it has been quiet for `waitMs`.",
    ),
    Snippet(
        _TOP,
        "sql",
        """\
SELECT customer_id, COUNT(*) AS orders, SUM(total) AS revenue
FROM orders
WHERE ordered_at >= '2026-01-01'
GROUP BY customer_id
HAVING SUM(total) > 0
ORDER BY revenue DESC
LIMIT 10;""",
        "`WHERE` filters rows before they are grouped, `HAVING` filters the groups.",
    ),
    Snippet(
        _FILES,
        "bash",
        """\
find . -type f -size +100M -printf '%s\\t%p\\n' | sort -rn | head -n 10""",
        "The ten largest files over 100 MB, in bytes (`-printf` is GNU find).",
    ),
    Snippet(
        _CENTRE,
        "css",
        """\
.parent {
  display: grid;
  place-items: center;
  min-height: 100dvh;
}""",
        "Grid centres both ways in one line.",
    ),
    # what a language shows when no topic fits
    Snippet(
        "",
        "python",
        """\
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


assert group_by(["ant", "bee", "asp"], lambda word: word[0]) == {"a": ["ant", "asp"], "b": ["bee"]}""",
        "Grouping is the step most small data jobs begin with; unlike `itertools.groupby` this needs no sorting.",
    ),
    Snippet(
        "",
        "javascript",
        """\
const groupBy = (items, key) => {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    groups.set(name, [...(groups.get(name) ?? []), item]);
  }
  return groups;
};

console.assert(groupBy(["ant", "bee", "asp"], (word) => word[0]).get("a").length === 2);""",
        "A `Map` takes keys of any kind and keeps their order.",
    ),
    Snippet(
        "",
        "typescript",
        """\
type Result<T> = { ok: true; value: T } | { ok: false; error: string };

function parsePort(text: string): Result<number> {
  const port = Number(text);
  return Number.isInteger(port) && port > 0 && port < 65536
    ? { ok: true, value: port }
    : { ok: false, error: `${text} is no port` };
}""",
        "A union with a tag makes the compiler insist that both cases are handled.",
    ),
    Snippet(
        "",
        "go",
        """\
func keys[K comparable, V any](m map[K]V) []K {
	result := make([]K, 0, len(m))
	for key := range m {
		result = append(result, key)
	}
	return result
}""",
        "The capacity is known, so the slice never grows.",
    ),
    Snippet(
        "",
        "rust",
        """\
use std::collections::HashMap;

fn count_words(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}""",
        "`entry` looks up once for reading and writing; the words borrow from the text.",
    ),
    Snippet(
        "",
        "java",
        """\
record Price(String currency, long cents) {
    Price {
        if (cents < 0) throw new IllegalArgumentException("a price is never negative");
    }
}""",
        "A record gives equality and a readable form for free; the compact constructor guards the rule.",
    ),
    Snippet(
        "",
        "sql",
        """\
SELECT team, date(created_at) AS day, SUM(cost) AS spend
FROM usage
GROUP BY team, day
ORDER BY day, spend DESC;""",
        "Spend by team and day, the question every budget begins with.",
    ),
    Snippet(
        "",
        "bash",
        """\
#!/usr/bin/env bash
set -euo pipefail

for file in "${@:?usage: $0 FILE...}"; do
  printf '%8d %s\\n' "$(wc -l < "$file")" "$file"
done""",
        "`set -euo pipefail` stops at the first failure and at unset variables; quotes keep odd file names whole.",
    ),
    Snippet(
        "",
        "html",
        """\
<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>Hello</title>
  <h1>Hello</h1>
  <p>A page needs no more than this.</p>
</html>""",
        "`head` and `body` may be left out; the character set may not.",
    ),
    Snippet(
        "",
        "css",
        """\
:root {
  color-scheme: light dark;
  font: 1rem/1.5 system-ui, sans-serif;
}""",
        "Two lines give a page that respects dark mode and reads well.",
    ),
)
