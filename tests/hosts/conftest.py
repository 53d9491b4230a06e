# SPDX-License-Identifier: MIT
"""@pytest.mark.engines("gluster"): a test for these engines alone."""


def pytest_configure(config):
    config.addinivalue_line("markers", "engines(names): for these engines alone")


def fits(item):
    mark = item.get_closest_marker("engines")
    return not mark or item.callspec.params["rig"].name in mark.args


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if fits(item)]
