"""Free text to concepts: exact, then normalised, then typing errors, then a text tower; a question where that fails.

Text is data. Whatever it says, nothing follows from it but which concepts are meant; what is not understood leads to a
question and never to a guess.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable, Sequence

from promptzoo.text.lexicon import questions
from promptzoo.text.lexicon.concepts import Concept, Match, Resolution
from promptzoo.text.lexicon.known import Known, known_of
from promptzoo.text.lexicon.lexicon import Lexicon
from promptzoo.text.lexicon.nearest import accepted, nearest, supported
from promptzoo.text.lexicon.parse import Piece, pieces, words_of
from promptzoo.text.lexicon.questions import Unclear
from promptzoo.text.lexicon.reading import Reading, Span, read


def resolve(text: str, lexicon: Lexicon | None = None, known: Iterable[str] | None = None, tower: Any = None
            ) -> Resolution:
    """Read what a text asks for.

    Args:
        text: a name (``left kidney``), a sentence (``both kidneys but not the cyst``) or a list.
        lexicon: default: the shipped one, with the files of ``$PROMPTZOO_LEXICON``.
        known: class names that a bundle knows, in any spelling. Of several meanings that with a class is preferred; a
            concept without a class becomes its sides, its parts or its kinds where these have classes. What is
            understood but has no class stays in ``wanted``; see :func:`class_for`.
        tower: a text tower for what the lexicon's words do not tell; None: there is a question instead.

    Returns:
        What is wanted and excluded; or a question with candidates, and nothing else.
    """
    lexicon = lexicon or Lexicon.load()
    classes = known_of(tuple(known), lexicon) if known is not None else None
    return _Resolver(classes.lexicon if classes else lexicon, classes, tower).run(text)


class _Resolver:
    def __init__(self, lexicon: Lexicon, known: Known | None, tower: Any) -> None:
        self.lexicon, self.known, self.tower = lexicon, known, tower

    def run(self, text: str) -> Resolution:
        found = pieces(words_of(text), self.lexicon.glued)
        wanted: list[Match] = []
        excluded: list[Match] = []
        try:
            self._read(found, wanted, excluded)
            if not wanted:
                raise Unclear(questions.nothing_wanted(text, [m.concept for m in excluded]))
            kept = self._without(self._expanded(wanted), self._expanded(excluded, whole=True))
            if not kept:
                raise Unclear(questions.contradiction([m.concept for m in wanted]), wanted)
        except Unclear as unclear:
            classes = list(self.known.classes.values()) if self.known else None
            return Resolution(question=questions.asked(unclear, classes), candidates=tuple(unclear.candidates))
        return Resolution(tuple(kept), tuple(self._expanded(excluded)))

    def _read(self, found: Sequence[Piece], wanted: list[Match], excluded: list[Match]) -> None:
        pending: tuple[str, ...] = ()
        last: list[Match] = []
        for n, piece in enumerate(found):
            reading = self._reading(piece)
            if not reading.spans:
                if reading.sides and last and not self._side_follows(found, n):
                    self._side_of(last[-1], reading.sides, excluded if piece.negated else wanted)
                elif reading.sides:
                    pending = (*pending, *reading.sides)
                elif piece.negated:
                    raise Unclear(questions.nothing_excluded(piece.words))
                continue
            spans = list(reading.spans)
            if pending:
                spans[0] = replace(spans[0], sides=(*pending, *spans[0].sides))
                pending = ()
            matches = [m for span in self._located(spans) for m in self._match(span)]
            if piece.choice and wanted and not piece.negated:
                both = [*last, *matches]
                if len({m.concept.id for m in both}) > 1:
                    raise Unclear(questions.either(both), both)
            (excluded if piece.negated else wanted).extend(matches)
            last = matches
        if pending:
            raise Unclear(questions.side_alone(pending))

    def _side_of(self, last: Match, sides: Sequence[str], told: list[Match]) -> None:
        """A side without its noun: of the one named before."""
        pair = self.lexicon.whole(last.concept) or last.concept
        if last in told and pair is last.concept:
            told.remove(last)
        told += self._sided(replace(last, concept=pair), sides)

    def _side_follows(self, found: Sequence[Piece], n: int) -> bool:
        """Whether the next piece begins with a side, so that this one shares its noun."""
        if n + 1 >= len(found) or found[n].negated != found[n + 1].negated:
            return False
        return any(word.side for word in found[n + 1].words)

    def _reading(self, piece: Piece) -> Reading:
        found = read(piece.words, self.lexicon)
        if len(found) > 1:
            fitting = [r for r in found if self.known and all(self._preferred(s)[1] for s in r.spans)]
            if len(fitting) != 1:
                raise Unclear(questions.typed(piece.words), self._all(found))
            found = fitting
        reading = found[0]
        if reading.unknown:
            near = nearest(piece.words, reading.unknown, self.lexicon, self.tower, self.known)
            match = accepted(near, self.lexicon) if self.tower is not None else None
            if match is None or (reading.spans and not supported(match.concept, reading.unknown)):
                raise Unclear(questions.unknown(piece.words, reading.unknown), [*near, *self._all([reading])][:6])
            entry = next(e for e in self.lexicon.entries if e.concept.id == match.concept.id)
            span = Span(tuple(piece.words), (entry,), "embedding", match.confidence, sides=reading.sides)
            reading = Reading((span,))
        return reading

    def _all(self, readings: Sequence[Reading]) -> list[Match]:
        found: dict[str, Match] = {}
        for reading in readings:
            for span in reading.spans:
                for entry in span.entries:
                    found.setdefault(entry.concept.id, Match(entry.concept, span.phrase, span.how, span.confidence))
        return list(found.values())[:6]

    def _preferred(self, span: Span) -> tuple[list[Concept], bool]:
        """The likeliest meanings of a phrase, and whether they have classes."""
        entries, covered = span.entries, False
        if self.known is not None:
            fitting = tuple(e for e in entries if self.known.class_for(e.concept)) or tuple(
                e for e in entries if self.known.cover(e.concept))
            entries, covered = fitting or entries, bool(fitting)
        least = min(e.rank for e in entries)
        return list({e.concept.id: e.concept for e in entries if e.rank == least}.values()), covered

    def _match(self, span: Span) -> list[Match]:
        meant, _ = self._preferred(span)
        matches = [Match(c, span.phrase, span.how, span.confidence) for c in meant]
        if len(matches) > 1 and span.sides:
            sided = [m for m in matches if m.concept.side or self.lexicon.sides(m.concept)]
            matches = sided or matches
        if len(matches) > 1:
            raise Unclear(questions.several(span.phrase, matches), matches)
        return self._sided(matches[0], span.sides)

    def _sided(self, match: Match, sides: Sequence[str]) -> list[Match]:
        """The left or right one, or both."""
        if not sides:
            return [match]
        concept = match.concept
        wanted = {"left", "right"} if "both" in sides else set(sides)
        if concept.side in wanted and len(wanted) == 1:
            return [match]
        pair = self.lexicon.sides(concept)
        if not pair:
            if "both" in sides and concept.side is None:
                return [match]
            raise Unclear(questions.no_such_side(concept, sorted(wanted)), [match])
        return [replace(match, concept=c) for c in pair if c.side in wanted]

    def _located(self, spans: list[Span]) -> list[Span]:
        """Without places that say nothing new (*liver in the abdomen*); a question if a place says more."""
        kept: list[Span] = []
        listed = len(spans) > 2 and all(
            s.how == "exact" and any(e.rank == 0 and not e.concept.group for e in s.entries) for s in spans)
        for span in spans:
            if kept:
                one, other = self._preferred(kept[-1])[0], self._preferred(span)[0]
                if len(one) == len(other) == 1:
                    if self._within(one[0], other[0]):
                        kept[-1] = replace(kept[-1], sides=(*kept[-1].sides, *span.sides))
                        continue
                    if self._within(other[0], one[0]) and not span.related:
                        kept[-1] = replace(span, sides=(*kept[-1].sides, *span.sides))
                        continue
                    both = [Match(c, s.phrase, s.how, s.confidence) for c, s in ((one[0], kept[-1]), (other[0], span))]
                    if span.related or one[0].kind != other[0].kind or not (span.sides or other[0].side or listed):
                        raise Unclear(questions.not_together(both), both)
            kept.append(span)
        return kept

    def _within(self, concept: Concept, place: Concept) -> bool:
        """Whether a place, or a more general word, says nothing beside the concept."""
        return place.id in ("body", concept.region) or concept in self.lexicon.kinds(place) or any(
            place.id == a.id for a in self.lexicon.ancestors(concept)) or (
            place.group and place.region == "body" and concept.kind == place.kind == "finding")

    def _expanded(self, matches: Sequence[Match], whole: bool = False) -> list[Match]:
        """As classes are known: sides, parts or kinds for what has no class; with ``whole`` also what was said."""
        found: dict[str, Match] = {}
        for match in matches:
            cover = self.known.cover(match.concept) if self.known else ()
            pair = self.lexicon.whole(match.concept) or match.concept
            both = [c.id for c in self.lexicon.sides(pair)] if pair is not match.concept else []
            if not cover and both and self.known and self.known.class_for(pair) and \
                    set(both) <= {m.concept.id for m in matches}:
                cover = (pair,)
            for concept in (*(cover or (match.concept,)), *((match.concept,) if whole else ())):
                found.setdefault(concept.id, replace(match, concept=concept))
        return list(found.values())

    def _without(self, wanted: Sequence[Match], excluded: Sequence[Match]) -> list[Match]:
        gone = {m.concept.id for m in excluded}
        gone |= {c.id for m in excluded for c in self.lexicon.sides(m.concept)}
        kept = []
        for match in wanted:
            pair = self.lexicon.sides(match.concept)
            if any(c.id in gone for c in pair) and match.concept.id not in gone:
                kept += [replace(match, concept=c) for c in pair if c.id not in gone]
            elif match.concept.id not in gone:
                kept.append(match)
        return kept
