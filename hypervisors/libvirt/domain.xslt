<?xml version="1.0" ?>
<!-- What the provider has no argument for: libvirt keeps what a machine prints on its serial console,
     so that a hung boot can be seen, and how disks are written. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="yes"/>
  <xsl:template match="node()|@*">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
    </xsl:copy>
  </xsl:template>
  <xsl:template match="/domain/devices/console">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
      <xsl:if test="'@DIRECTORY@' != ''">
        <log append="off">
          <xsl:attribute name="file">
            <xsl:value-of select="concat('@DIRECTORY@/', /domain/name, '.log')"/>
          </xsl:attribute>
        </log>
      </xsl:if>
    </xsl:copy>
  </xsl:template>
  <xsl:template match="/domain/devices/disk/driver">
    <xsl:copy>
      <xsl:apply-templates select="@*"/>
      <xsl:attribute name="cache">@CACHE@</xsl:attribute>
      <xsl:apply-templates select="node()"/>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
