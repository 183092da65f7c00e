"""The report: one page of HTML about what a stack did.

Reading order: ``question`` and ``sql`` (what is asked), ``facts`` (what is answered), ``words``, ``scales``, ``svg``,
``figures`` (plots), ``outcomes``, ``sections`` and ``listings`` (what is shown of the facts), ``page`` and ``templates`` (the
page). Who asks and who writes the file is ``cutor.cli.report``.
"""
