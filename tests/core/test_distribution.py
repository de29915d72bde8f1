import pytest

from fedlab.core.distribution import refuse_other_distribution


@pytest.mark.parametrize(
    "name", ["fedlab-1.3.0.dist-info", "FedLab-1.2.egg-info", "fedlab.egg-info"]
)
def test_other_distribution_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ImportError, match=r"the distribution fedlab-privacy.*" + name):
        refuse_other_distribution([str(tmp_path / "missing"), str(tmp_path)])


@pytest.mark.parametrize(
    "name", ["fedlab_privacy-0.1.0.dist-info", "fedlab_example-1.0.dist-info", "fedlab-notes.txt"]
)
def test_own_distribution_is_accepted(tmp_path, name):
    (tmp_path / name).mkdir()
    refuse_other_distribution([str(tmp_path)])


def test_this_environment_is_accepted():
    refuse_other_distribution()
