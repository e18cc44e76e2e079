from qframe.testing import parametrize_with_checks


# (3) The namespace of (2).
@parametrize_with_checks(["template:stepped_tanh", "template:unit_max"])
def test_conformance(check):
    check()
