"""What MATH500 and AIME share: how mathematics is asked."""

from evals.problem import Problem, Prompt, Style
from evals.prompts import Template, Wording, Worked, from_template

WORDING = Wording(
    instruction=(
        "Solve the mathematics problem below. Work through it step by step and give the final answer inside \\boxed{}."
    ),
    reminder="Do not forget: the final answer goes inside \\boxed{}.",
    system="You are an expert mathematician who reasons carefully.",
    examples=(
        Worked(
            "A crate holds 7 rows of 9 bottles, and 5 bottles are empty. How many bottles are full?",
            "There are $7 \\cdot 9 = 63$ bottles. Of these $63 - 5 = 58$ are full. The final answer is $\\boxed{58}$.",
        ),
        Worked(
            "For which positive $t$ is $t^2 - 2t = 15$?",
            "The equation is $(t - 5)(t + 3) = 0$, so $t = 5$ or $t = -3$. Only $5$ is positive. "
            "The final answer is $\\boxed{5}$.",
        ),
        Worked(
            "A fair coin is tossed three times. What is the probability of exactly two heads?",
            "Of the $2^3 = 8$ equally likely outcomes, $3$ have exactly two heads. "
            "The final answer is $\\boxed{\\frac{3}{8}}$.",
        ),
        Worked(
            "A right triangle has legs $6$ and $9$. How long is its hypotenuse, in simplest radical form?",
            "By the theorem of Pythagoras it is $\\sqrt{36 + 81} = \\sqrt{117} = 3\\sqrt{13}$. "
            "The final answer is $\\boxed{3\\sqrt{13}}$.",
        ),
    ),
)


def mathematics_prompt(problem: Problem, style: Style | Template) -> Prompt:
    """A mathematics problem's prompt; a template knows `{question}`."""
    if isinstance(style, Template):
        values, required = {"question": problem.question}, frozenset({"question"})
        return from_template(style, problem.benchmark, values, required, gold=problem.answer, record={})
    return WORDING.prompt(problem.question, style, problem.answer, {})
