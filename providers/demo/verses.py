"""Poems and stories with a place for a subject: `{subject}` in a line, `{Subject}` where a line begins."""

HAIKU = (
    """\
A lamp in the rain,
the queue grows by one request.
Somebody answers.""",
    """\
Morning on the wire:
one small question, then the hush
before the first word.""",
    """\
Leaves on the still pond.
Each one waits for a small wind
to tell it the way.""",
)

POEMS = (
    """\
{Subject} came in quietly,
as evening things will do,
and set its hat upon the chair
and asked what I was up to.

I said that I was counting words.
It smiled and counted too,
and when we both ran out of them
the moon said: *that will do*.""",
    """\
There is a drawer for rainy days,
a shelf for things half known,
and on the sill, in slanting light,
{subject}, on its own.

I never meant to keep it there,
it only came to stay,
and now the window seems to lean
a little bit its way.""",
    """\
I looked for {subject} on the map,
the map looked back at me:
*some places*, said the folded page,
*are only there to be.*

So I put down the compass then
and took the longer street,
and found it humming to itself
beside my own two feet.""",
)

STORIES = (
    """\
Mara had been the night operator for eleven years, and in eleven years nobody had asked the switchboard about {subject}.

So when the small green lamp lit up at ten past three, she did not know which cable to pull. She tried Knowledge, and \
it was busy. She tried Memory, and it rang and rang. In the end she plugged the call into the oldest socket, the one \
without a label.

“Ah,” said a voice that sounded as if it had been waiting. “I wondered when somebody would ask.” And it talked until \
the sun came up, and Mara, who was only supposed to connect people, stayed on the line.""",
    """\
The village had one clock, one baker and one rule: nobody spoke of {subject} before breakfast.

Then a child of seven, who had slept badly and woken early, leaned out of the window and said it aloud. The clock \
missed a beat. The baker let a loaf fall. Three pigeons and a bishop turned around.

Nothing else happened. By noon everybody was talking about it, by evening it was a song, and the rule was changed to \
the one that stands today: *ask before breakfast, there is more time for the answer.*""",
)
