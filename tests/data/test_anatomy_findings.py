"""Findings in phantoms, and phantoms in PET."""
import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.data.anatomy import render_ct, render_pet, torso
from promptzoo.data.anatomy.lesions import DARKER, FINDINGS, with_findings
from promptzoo.data.anatomy.tissues import NUMBER


def test_findings_and_uptake():
    """Findings lie in their hosts, whose voxels they take; a tumour is darker than the liver in CT and brighter in
    PET, the bladder is brightest."""
    body = torso(4, 6.0, absent=())
    sick = with_findings(body, 4, 1.0)
    for name, finding in FINDINGS.items():
        inside = sick.mask(name)
        assert inside.any()
        assert set(np.unique(body.structure[inside])) <= {body.names.index(host) for host in finding.hosts}
    assert (sick.structure != body.structure).sum() == sum(sick.mask(name).sum() for name in FINDINGS)
    assert not with_findings(body, 4, 0.0).mask("liver_tumor").any()
    ct, pet = render_ct(sick.tissue, generator(4), DARKER), render_pet(sick.tissue, generator(4), 6.0)
    tumour, liver = sick.mask("liver_tumor"), sick.mask("liver")
    assert ct[tumour].mean() < ct[liver].mean() - 8 and pet[tumour].mean() > pet[liver].mean() + 0.5
    assert pet.min() >= 0 and pet[sick.tissue == NUMBER["urine"]].mean() > 2 * pet[liver].mean()
