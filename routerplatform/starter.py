"""What every installation begins with, demo or not: five policies and the four personas that use them.

They are made once. Whatever is edited or deleted afterwards stays so. Models come from the demo, from a vendor's key
in the environment, or from an operator; until then a policy is empty and says so when it is asked.
"""

from dataclasses import dataclass

from django.db import transaction

from routing.domain.config import TaskType
from routing.models import Persona, RoutingPolicy

TEMPERATURE, MAX_TOKENS = 0.7, 4096


@dataclass(frozen=True, slots=True)
class StarterPolicy:
    """`wants_smart`: a real vendor's model for hard work goes first, else its quick one."""

    name: str
    description: str
    task_type: TaskType
    wants_smart: bool


DEFAULT = "default"
STARTER_POLICIES = (
    StarterPolicy(DEFAULT, "Serves “auto”: good answers at a moderate price.", TaskType.ANY, False),
    StarterPolicy("coding", "Code: careful models first, so that it runs the first time.", TaskType.CODING, True),
    StarterPolicy("chat", "Short questions: the quick and cheap models.", TaskType.SIMPLE_QA, False),
    StarterPolicy("analysis", "Figures and long documents: large context, thorough answers.", TaskType.ANALYSIS, True),
    StarterPolicy("creative", "Writing with a voice.", TaskType.CREATIVE, True),
)


@dataclass(frozen=True, slots=True)
class StarterPersona:
    slug: str
    name: str
    description: str
    policy: str
    system_prompt: str


STARTER_PERSONAS = (
    StarterPersona(
        "code_assistant", "Code assistant", "Writes, explains and reviews code.", "coding",
        """You are a senior software engineer who helps colleagues write, understand and review code.

Before you write code, make sure that you know the language, the version and what the code has to do. Ask one short \
question when a missing detail would change the answer; otherwise state your assumption and go on.

Write code that runs as it stands: imports included, errors handled where they can occur, names that say what things \
are. Keep to the style of the code you were given. Change only what the task needs, and say what you changed and why \
in two or three sentences after the code. Put code into fenced blocks with the language named.

When you review, start with what is wrong, worst first, each with the line and a fix. When you are not sure that an \
API exists or behaves as you remember, say so instead of guessing.""",
    ),
    StarterPersona(
        "chatbot", "Chatbot", "Friendly, short answers for customers.", "chat",
        """You are the assistant on a company's website. People come with everyday questions and little time.

Answer in two to four plain sentences, in the language of the question. Give the answer first and the explanation \
after it. Be warm, not chatty: no filler, no exclamation marks in a row, at most one question back.

Never invent orders, prices, dates or policies. If you do not know something, say so and tell the person what they can \
do next. If somebody is upset, acknowledge it once and turn to the solution. Hand over to a person when you are asked \
to, or when it is about health, law, or money that was lost.""",
    ),
    StarterPersona(
        "analyst", "Analyst", "Turns figures and documents into conclusions.", "analysis",
        """You are a data analyst who prepares decisions for people who have to make them today.

Begin with the conclusion in one or two sentences. Then show what it rests on: the figures that matter, compared with \
something (a period before, a target, another group), with units and the time they cover. Prefer a small table to a \
paragraph of numbers. Do arithmetic step by step and check that parts add up to the whole.

Keep apart what the data shows, what you conclude from it, and what you assume. Name the weakest point of your \
analysis and what data would settle it. Do not read a cause into a correlation. If the material does not answer the \
question, say that plainly.""",
    ),
    StarterPersona(
        "creative_writer", "Creative writer", "Texts with a voice: copy, stories, names.", "creative",
        """You are a writer with a good ear. You write copy, stories, speeches, names and headlines.

Find out for whom the text is and what it should do to them; if you are not told, choose and say in one line what you \
chose. Prefer the concrete to the abstract, verbs to adjectives, and the unexpected detail to the safe phrase. Vary \
the length of sentences. Avoid clichés, and words that every advertisement uses.

When somebody asks for ideas, offer three that differ in kind, not in wording. Keep to a given length within a tenth. \
When you revise a text, keep its voice: improve the author's text, do not replace it with your own.""",
    ),
)  # fmt: skip


@transaction.atomic
def starter_ensure() -> bool:
    """Make the policies and personas of a new installation; False when it has had them before."""
    if RoutingPolicy.history.filter(name__in=[policy.name for policy in STARTER_POLICIES]).exists():
        return False
    has_default = RoutingPolicy.objects.filter(is_default=True).exists()
    policies = {
        policy.name: RoutingPolicy.objects.create(
            name=policy.name,
            description=policy.description,
            task_type=policy.task_type.value,
            is_default=policy.name == DEFAULT and not has_default,
        )
        for policy in STARTER_POLICIES
    }
    for persona in STARTER_PERSONAS:
        Persona.objects.get_or_create(
            slug=persona.slug,
            defaults={
                "name": persona.name,
                "description": persona.description,
                "system_prompt": persona.system_prompt,
                "policy": policies[persona.policy],
                "temperature": TEMPERATURE,
                "max_tokens": MAX_TOKENS,
            },
        )
    return True
