"""What `lossref run X --infer-dialect` prints: the choices that answers show, the named dialects that fit, what couldn't be told."""

from __future__ import annotations

from conformance.infer import Inference


def described(name: str, found: Inference) -> str:
    """An inference in words; `name` is the backend's."""
    lines = [f"{name}: the choices that its answers show"]
    for choice in dict.fromkeys(choice for _, choice in found.evidence):
        of = {operation: evidence for (operation, stated), evidence in found.evidence.items() if stated == choice}
        groups: dict[str, list[str]] = {}
        for operation, evidence in of.items():
            groups.setdefault(" or ".join(evidence.best), []).append(operation)
        for value, operations in groups.items():
            telling = sum(of[operation].telling for operation in operations)
            against = sum(of[operation].contradicted for operation in operations)
            where = f"   {', '.join(operations)}" if len(groups) > 1 else ""
            odds = f", {against} speak against it" if against else ""
            lines.append(f"    {choice:<26}{value:<10}{_vectors(telling)} tell{odds}{where}")
    for operation, choice in found.untold:
        lines.append(f"    {choice:<26}{'?':<10}no vector of {operation} could tell")
    if found.unexplained:
        lines.append(f"    {_vectors(found.unexplained)} have an answer that is right under no choices")
    for dialect, differences in found.nearest():
        if not differences:
            lines.append(f"the dialect {dialect.name} fits")
        else:
            apart = ", ".join(f"{choice} {value} in {operation}" for (operation, choice), value in differences.items())
            lines.append(f"the dialect {dialect.name} comes nearest; it has {apart}")
    return "\n".join(lines)


def _vectors(count: int) -> str:
    return "1 vector" if count == 1 else f"{count} vectors"
