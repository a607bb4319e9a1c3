"""ESMTP on the wire, as pure functions: end of data, dot-stuffing, parameters, extensions."""
