"""Results of searches at the three levels: which match, in which order, with which attributes (PS3.18 10.6.3.3)."""
from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from promptzoo.data.dicomweb.model import INDEXED, TAGS, Instance, Json, as_number, element, tag_of
from promptzoo.data.dicomweb.query import Query, empty_element, matches

LEVELS = ("study", "series", "instance")
_MODALITIES, _SOP_CLASSES = tag_of("ModalitiesInStudy"), tag_of("SOPClassesInStudy")


def search_index(studies: Mapping[str, Mapping[str, Mapping[str, Instance]]], level: str, query: Query,
                 study_uid: str | None, series_uid: str | None, base_url: str,
                 header: Callable[[Instance], Json]) -> list[Json]:
    """Search an index.

    Args:
        studies: instance by UID by series by study.
        level: ``study``, ``series`` or ``instance``.
        query: what must match and what is wanted. A study or series matches if for every filter one of its instances
            does. Attributes that are not indexed match everything (optional keys, PS3.4 C.2.2.1.3).
        study_uid, series_uid: search only in these.
        base_url: address of the service.
        header: all attributes of an instance, for fields that are not indexed.

    Returns:
        One dataset per result, studies from the latest, series and instances by their number.
    """
    chosen = studies if study_uid is None else {study_uid: studies.get(study_uid, {})}
    groups: list[list[Instance]] = []
    for study in chosen.values():
        wanted = [list(series.values()) for uid, series in study.items() if series_uid in (None, uid)]
        if level == "study":
            groups.append([one for series in wanted for one in series])
        else:
            groups += wanted if level == "series" else [[one] for series in wanted for one in series]
    found = [group for group in groups if group and _group_matches(group, query, studies)]
    found.sort(key=_SORT[level])
    page = found[query.offset:None if query.limit is None else query.offset + query.limit]
    above = LEVELS[:LEVELS.index(level) + 1]
    if study_uid is not None and not query.everything:
        above = tuple(name for name in above if name != "study")
    if series_uid is not None and level == "instance" and not query.everything:
        above = ("instance",)
    return [_result(group, level, above, query, studies, base_url, header) for group in page]


def _group_matches(group: list[Instance], query: Query, studies: Mapping[str, Any]) -> bool:
    for tag, wanted in query.filters.items():
        if tag in (_MODALITIES, _SOP_CLASSES):
            told = _in_study(group[0], tag, studies)
            if not matches(told, tag, wanted):
                return False
        elif tag in INDEXED and not any(matches(one.attributes.get(tag), tag, wanted) for one in group):
            return False
    return True


def _in_study(one: Instance, tag: str, studies: Mapping[str, Any]) -> Json:
    source = "Modality" if tag == _MODALITIES else "SOPClassUID"
    values = {str(i.value(source)) for series in studies[one.study_uid].values() for i in series.values()}
    return element("ModalitiesInStudy" if tag == _MODALITIES else "SOPClassesInStudy", *sorted(values - {""}))


def _latest_first(group: list[Instance]) -> tuple[Any, ...]:
    one = _speaker(group)
    date = str(one.value("StudyDate"))
    return (tuple(-ord(c) for c in date) or (0,), str(one.value("PatientName")), one.study_uid)


_SORT: dict[str, Callable[[list[Instance]], tuple[Any, ...]]] = {
    "study": _latest_first,
    "series": lambda group: (group[0].study_uid, as_number(group[0].value("SeriesNumber", 0)), group[0].series_uid),
    "instance": lambda group: (group[0].study_uid, as_number(group[0].value("SeriesNumber", 0)), group[0].series_uid,
                               as_number(group[0].value("InstanceNumber", 0)), group[0].sop_uid)}


def _speaker(group: Iterable[Instance]) -> Instance:
    """The instance whose attributes stand for a group: the first image, as a mask may say less of the patient."""
    instances = list(group)
    return min(instances, key=lambda one: (not one.is_image, as_number(one.value("InstanceNumber", 0)), one.sop_uid))


def _result(group: list[Instance], level: str, above: tuple[str, ...], query: Query, studies: Mapping[str, Any],
            base_url: str, header: Callable[[Instance], Json]) -> Json:
    one = _speaker(group)
    address = f"{base_url}/studies/{one.study_uid}"
    tags = [tag for name in above for tag in TAGS[name]]
    told = {tag: dict(one.attributes.get(tag) or empty_element(tag)) for tag in tags}
    told["00080005"] = element("SpecificCharacterSet", "ISO_IR 192")
    told[tag_of("InstanceAvailability")] = element("InstanceAvailability", "ONLINE")
    told[tag_of("StudyInstanceUID")] = element("StudyInstanceUID", one.study_uid)
    if "study" in above:
        study = studies[one.study_uid]
        told[_MODALITIES] = _in_study(one, _MODALITIES, studies)
        told[tag_of("NumberOfStudyRelatedSeries")] = element("NumberOfStudyRelatedSeries", len(study))
        told[tag_of("NumberOfStudyRelatedInstances")] = element(
            "NumberOfStudyRelatedInstances", sum(len(series) for series in study.values()))
    if level != "study":
        address += f"/series/{one.series_uid}"
        told[tag_of("SeriesInstanceUID")] = element("SeriesInstanceUID", one.series_uid)
        told[tag_of("NumberOfSeriesRelatedInstances")] = element(
            "NumberOfSeriesRelatedInstances", len(studies[one.study_uid][one.series_uid]))
    if level == "instance":
        address += f"/instances/{one.sop_uid}"
    told[tag_of("RetrieveURL")] = element("RetrieveURL", address)
    missing = [tag for tag in query.fields if tag not in told]
    if missing:
        whole = header(one) if any(tag not in INDEXED for tag in missing) else one.attributes
        told.update({tag: dict(whole[tag]) for tag in missing if tag in whole})
    if level == "study" and _SOP_CLASSES in query.fields:
        told[_SOP_CLASSES] = _in_study(one, _SOP_CLASSES, studies)
    return dict(sorted(told.items()))
