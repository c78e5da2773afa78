"""A few prompts of each kind of work, written for this platform: what embeddings are compared with."""

from collections.abc import Mapping
from typing import Final

from routing.domain.config import TaskType

EXAMPLES: Final[Mapping[TaskType, tuple[str, ...]]] = {
    TaskType.CODING: (
        "Write a Python function that reads a CSV file and returns the ten largest orders.",
        "Why does this SQL query return the same row twice, and how do I fix it?",
        "Refactor this class so that it can be tested without a database.",
        "Explain what this regular expression matches: ^\\d{3}-[A-Z]+$",
        "My React component renders in an endless loop when the state changes.",
        "Schreibe ein Bash-Skript, das alte Logdateien löscht.",
        "Add type annotations and docstrings to the following code.",
    ),
    TaskType.CREATIVE: (
        "Write a short story about a lighthouse keeper who hears voices in the fog.",
        "Give me five slogans for a bakery that only opens at night.",
        "Compose a birthday poem for my grandmother, who loves her garden.",
        "Pretend to be a grumpy pirate and greet my friends.",
        "Write a friendly letter that tells our customers about the new opening hours.",
        "Écris un dialogue drôle entre un chat et un aspirateur.",
        "Come up with names for a band that plays sea shanties on synthesizers.",
    ),
    TaskType.ANALYSIS: (
        "Summarise the following report in five bullet points.",
        "Is the tone of this review positive, negative or neutral?",
        "Extract all names, dates and amounts from this contract as a table.",
        "Compare these two proposals and tell me where they contradict each other.",
        "According to the passage below, why was the factory closed?",
        "Ordne diese Kundenanfragen den passenden Abteilungen zu.",
        "What trends can you see in these quarterly sales figures?",
    ),
    TaskType.COMPLEX_REASONING: (
        "A train leaves at 9:40 and is overtaken by a faster one. When and where do they meet?",
        "Prove that the square root of 2 is irrational.",
        "Plan a rollout over three regions such that no two databases are migrated on the same day.",
        "If all bloops are razzies and some razzies are lazzies, must some bloops be lazzies?",
        "Four people have to cross a bridge with one torch. What is the least time they need?",
        "Solve the system of equations 3x + 2y = 12 and x - y = 1, step by step.",
        "Beweise durch Induktion, dass die Summe der ersten n ungeraden Zahlen n² ist.",
    ),
    TaskType.SIMPLE_QA: (
        "What is the capital of Australia?",
        "Who wrote Pride and Prejudice?",
        "How many legs does a spider have?",
        "When did the Berlin Wall fall?",
        "Wie hoch ist der Mont Blanc?",
        "What does the abbreviation HTTP stand for?",
        "Which planet is closest to the sun?",
    ),
}
