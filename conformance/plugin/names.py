"""What pytest knows the plugin's things by."""

from __future__ import annotations

OWN = "lossref"  # the option, the marker, the fixture, and what the ids of our tests begin with
UNJUDGED = "lossref_unjudged"  # the property of a passed test's report that says which of its tensors were not judged, and why
