<?xml version="1.0"?>
<!-- The provider leaves out that a network has no name server (0.8.3): libvirt would run dnsmasq on it. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="yes"/>
  <xsl:template match="node()|@*">
    <xsl:copy><xsl:apply-templates select="node()|@*"/></xsl:copy>
  </xsl:template>
  <xsl:template match="/network/dns"/>
  <xsl:template match="/network">
    <xsl:copy>
      <xsl:apply-templates select="@*|node()"/>
      <dns enable="no"/>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
